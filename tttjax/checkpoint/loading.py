"""Checkpoint -> model and parameters on the devices.

Tensors are read one at a time, each device's slice straight from the file, and are transposed and
cast on the devices. The host never holds more than one tensor of the file.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from tttjax.attention.backends import check_attention
from tttjax.checkpoint.checkpoint import Checkpoint, open_checkpoint
from tttjax.checkpoint.stored_tensor import DTYPES, StoredTensor, format_code, num_bytes
from tttjax.models.decoder import Decoder, Params, abstract_params
from tttjax.models.families import FAMILIES
from tttjax.models.tensor_layout import Layout
from tttjax.sharding import check_mesh

_CHUNK_BYTES = 4 << 20  # Bounds the file pages mapped, and their copy, at a time.


def from_pretrained(
  path, mesh: jax.sharding.Mesh | None = None, dtype=None, attention: str = "auto"
) -> tuple[Decoder, Params]:
  """Loads a checkpoint in Hugging Face's layout (transformers 4 or 5) or a GGUF file.

  Everything that can be checked without reading the weights is checked before a device is used.

  Args:
    path: local directory with config.json and model.safetensors or its shards and index, a GGUF
      file, which is dequantised, the name of a model ("embedded", "smollm2"), or a `Checkpoint`
      that is open already.
    mesh: where the parameters go, by the model's logical axes; None means the default device. In
      a multi-process program every process calls this and reads only what its devices hold.
    dtype: data type of parameters and activations; None means bfloat16 on accelerators and
      float32 on CPU.
    attention: the kernels of attention over a cache: "portable", "pallas_tpu", or "auto", which
      goes by the devices' platform.

  Returns:
    (model, params): the Flax module, and its parameters in `dtype` as nested dicts.

  Raises:
    UserError: the checkpoint is incomplete, corrupt or of another architecture, dtype is none of
      float32, bfloat16 and float16, mesh is no mesh, or attention no backend.
  """
  check_mesh(mesh)
  check_attention(attention)
  checkpoint = path if isinstance(path, Checkpoint) else open_checkpoint(path)
  config, stored = checkpoint.config, checkpoint.tensors
  if dtype is None:
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    dtype = jnp.float32 if platform == "cpu" else jnp.bfloat16
  model = Decoder(config, dtype=DTYPES[format_code(dtype)], mesh=mesh, attention=attention)
  target = abstract_params(model)
  params: dict[str, Any] = {}
  for layout in FAMILIES[config.model_type].layouts_of(config):
    tensors = [stored[name] for name in layout.names(config)]
    leaf = functools.reduce(dict.__getitem__, layout.path, target)
    *parents, last = layout.path
    node = functools.reduce(lambda tree, key: tree.setdefault(key, {}), parents, params)
    node[last] = _load(layout, layout.split_shape(config), tensors, leaf)
  return model, params


def _load(
  layout: Layout,
  split_shape: tuple[int, ...],
  tensors: list[StoredTensor],
  leaf: jax.ShapeDtypeStruct,
) -> jax.Array:
  """One parameter; a stacked one is filled layer by layer, in place."""
  sharding = _block_sharding(layout, leaf)
  blocks = (_read_block(layout, tensor, split_shape, sharding) for tensor in tensors)
  convert, insert = _programs(layout.from_file, leaf.dtype, leaf.sharding)
  if not layout.stacked:
    return convert(next(blocks))
  stack = jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
  for layer in range(len(tensors)):
    # One block is alive at a time: none has a name, each insertion is waited for, and the transfer
    # of the layer number makes JAX let go of the host memory of the block before.
    index = jax.device_put(np.int32(layer))
    stack = jax.block_until_ready(insert(stack, next(blocks), index))
  return stack


@functools.lru_cache
def _programs(permutation: tuple[int, ...], dtype: np.dtype, sharding: NamedSharding | None):
  """(block -> parameter, (stack, block, layer) -> stack), jitted; shared by equal shapes."""

  def convert(block: jax.Array) -> jax.Array:
    return block.transpose(permutation).astype(dtype)

  def insert(stack: jax.Array, block: jax.Array, layer: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(stack, convert(block), layer, 0)

  return (
    jax.jit(convert, out_shardings=sharding),
    jax.jit(insert, donate_argnums=0, out_shardings=sharding),
  )


def _block_sharding(layout: Layout, leaf: jax.ShapeDtypeStruct) -> NamedSharding | None:
  """Sharding of one tensor in the file's axis order, so that the transpose moves nothing."""
  if leaf.sharding is None:
    return None
  spec = tuple(leaf.sharding.spec) + (None,) * (len(leaf.shape) - len(leaf.sharding.spec))
  spec = spec[1:] if layout.stacked else spec
  return NamedSharding(leaf.sharding.mesh, PartitionSpec(*(spec[i] for i in layout.to_file)))


def _read_block(
  layout: Layout,
  tensor: StoredTensor,
  split_shape: tuple[int, ...],
  sharding: NamedSharding | None,
) -> jax.Array:
  """A stored tensor, viewed as `split_shape`, on the devices; dtype and axis order of the file."""
  if sharding is None:
    whole = (slice(None),) * len(split_shape)
    return jax.device_put(_read_slice(layout, tensor, split_shape, whole))
  slices: dict[tuple, np.ndarray] = {}  # Devices that hold the same slice share one copy.

  def read(index: tuple[slice, ...]) -> np.ndarray:
    key = tuple((part.start, part.stop) for part in index)
    if key not in slices:
      slices[key] = _read_slice(layout, tensor, split_shape, index)
    return slices[key]

  return jax.make_array_from_callback(split_shape, sharding, read)


def _read_slice(
  layout: Layout,
  tensor: StoredTensor,
  split_shape: tuple[int, ...],
  index: tuple[slice, ...],
) -> np.ndarray:
  """Copies a slice of a stored tensor, a few rows at a time."""
  rows = range(*index[0].indices(split_shape[0]))
  shape = [len(range(*part.indices(size))) for part, size in zip(index, split_shape, strict=True)]
  out = _aligned_empty(shape, DTYPES[tensor.dtype])
  step = max(1, _CHUNK_BYTES * split_shape[0] // max(1, num_bytes(tensor)))
  for start in range(0, len(rows), step):
    chunk = slice(rows.start + start, min(rows.start + start + step, rows.stop))
    out[start : start + step] = _read_chunk(layout, tensor, split_shape, (chunk, *index[1:]))
  return out


def _read_chunk(
  layout: Layout,
  tensor: StoredTensor,
  split_shape: tuple[int, ...],
  index: tuple[slice, ...],
) -> np.ndarray:
  """The part of a stored tensor at `index` of its split axes.

  The file is sliced along the first axis of each product ("Hd": H), which is what meshes split;
  slices of the others are cut from that.
  """
  axes = iter(zip(index, split_shape, strict=True))
  of_file, of_view, view = [], [], []
  for product in layout.file:
    (outer, size), *inner = (next(axes) for _ in product)
    start, stop, _ = outer.indices(size)
    block = math.prod(size for _, size in inner)
    of_file.append(slice(start * block, stop * block))
    of_view += [slice(None), *(part for part, _ in inner)]
    view += [stop - start, *(size for _, size in inner)]
  return tensor.read(tuple(of_file)).reshape(view)[tuple(of_view)]


def _aligned_empty(shape: list[int], dtype: np.dtype) -> np.ndarray:
  """np.empty at a multiple of 64 bytes: the CPU backend adopts such memory, other it copies."""
  size = math.prod(shape) * dtype.itemsize
  raw = np.empty(size + 64, np.uint8)
  start = -raw.ctypes.data % 64
  return raw[start : start + size].view(dtype).reshape(shape)
