"""Parameters -> a checkpoint directory in Hugging Face's layout, which transformers loads."""

from collections.abc import Iterator
import os
import pathlib
import shutil
import sys
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors.numpy import save_file

from tttjax.checkpoint.config_json import write_config
from tttjax.checkpoint.fields import read_json
from tttjax.checkpoint.gguf_config import read_gguf_config
from tttjax.checkpoint.gguf_header import read_header
from tttjax.checkpoint.gguf_tokenizer import declared_stop_ids, special_ids
from tttjax.checkpoint.paths import check_file, checkpoint_path
from tttjax.checkpoint.safetensors_index import INDEX_FILE, SINGLE_FILE
from tttjax.checkpoint.stored_tensor import DTYPES, format_code
from tttjax.checkpoint.tokenizers import load_tokenizer, write_tokenizer
from tttjax.errors import UserError
from tttjax.files import user_path, write_json
from tttjax.models import tensor_layout
from tttjax.models.decoder import Decoder, Params
from tttjax.models.decoder_config import DecoderConfig
from tttjax.models.families import FAMILIES
from tttjax.models.fast_weights import check_fast, has_delta
from tttjax.sharding import to_host

# The host holds the tensors of one file while it is written.
MAX_SHARD_BYTES = 2_000_000_000
COPIED_FILES = (
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
  "chat_template.json",
  "LICENSE",
)
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_Shard = dict[str, tuple[int, ...]]  # Name -> shape, in file order.


def export(
  path_out,
  model: Decoder,
  params: Params,
  fast: Params | None = None,
  dtype=jnp.float32,
  source=None,
) -> pathlib.Path:
  """Writes a checkpoint with the query kernels W_Q + Delta; it appears complete or not at all.

  All tensors are written in `dtype`, whatever the dtype of `params`: float32 by default, even
  where the base weights are bfloat16, because bfloat16 rounds most of Delta away. Where another
  dtype is asked for, prints the relative error |round(W_Q + Delta) - (W_Q + Delta)| / |Delta|
  (Frobenius norms, all layers).

  The exported model is not the adapted session: a session keeps the context's cache as the base
  weights made it and applies Delta only to later queries, whereas the exported model reads the
  context anew with W_Q + Delta, so that in all layers but the first its keys and values differ
  too. Both follow from the same Delta, but their logits differ, and greedy texts part sooner or
  later.

  The host holds the tensors of one file (MAX_SHARD_BYTES, or one tensor if that is larger).

  Args:
    path_out: directory to make; may exist if it is empty.
    model: the model of `params`.
    params: base weights, in any float dtype, sharded or not. In a multi-process program every
      process calls this and the first one writes.
    fast: fast weights, Delta float32 [L, D, H, d], or None to write the base weights.
    dtype: float32, bfloat16 or float16, of all tensors in the file.
    source: checkpoint whose tokenizer, generation config and special token ids are copied (a
      directory, a GGUF file or a model's name), or None.

  Returns:
    `path_out` as a path.

  Raises:
    UserError: path_out is in use or cannot be written, source is no checkpoint, a value does not
      fit dtype, or the fast weights are of another model.
  """
  path_out = user_path(path_out, "path_out").absolute()
  code = format_code(dtype)
  try:
    source = None if source is None else checkpoint_path(source)
  except UserError as error:
    raise UserError(f"source: {error}") from None
  config_json = write_config(model.config, dtype) | _source_token_ids(source)
  _check_target(path_out)
  _check_fast(model, fast)
  _barrier("checked")  # No process may find the directory that the first one makes.

  temporary = path_out.with_name(f".{path_out.name}.{os.getpid()}.partial")
  writes = jax.process_index() == 0
  try:
    if writes:
      temporary.mkdir(parents=True)
      write_json(temporary / "config.json", config_json)
      if source is not None:
        _copy_tokenizer(source, temporary)
    _write_weights(temporary if writes else None, code, model.config, params, fast)
    if writes:
      os.replace(temporary, path_out)  # Atomic; replaces nothing but an empty directory.
  except (OSError, safetensors.SafetensorError) as error:
    reason = getattr(error, "strerror", None) or error
    raise UserError(
      f"{path_out}: cannot be written ({reason}); choose a directory on a disk with write"
      " permission and enough space"
    ) from error
  finally:
    if writes:
      shutil.rmtree(temporary, ignore_errors=True)  # Gone already unless something failed.
  _barrier("written")
  return path_out


def _barrier(name: str) -> None:
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(f"tttjax export {name}")


def _source_token_ids(source: pathlib.Path | None) -> dict[str, Any]:
  if source is None:
    return {}
  if not source.is_dir():
    header = read_header(source)
    vocab_size = read_gguf_config(header).vocab_size
    values = {f"{name}_token_id": i for name, i in special_ids(header, vocab_size).items()}
    values["eos_token_id"] = sorted(declared_stop_ids(header, vocab_size)) or None
  else:
    path = source / "config.json"
    values = read_json(path) if path.exists() else {}
  return {name: values[name] for name in _TOKEN_IDS if name in values}


def _copy_tokenizer(source: pathlib.Path, directory: pathlib.Path) -> None:
  if not source.is_dir():
    write_tokenizer(directory, load_tokenizer(source))
    return
  for file in COPIED_FILES:
    if os.path.lexists(source / file):
      check_file(source / file)
      shutil.copyfile(source / file, directory / file)


def _check_target(path_out: pathlib.Path) -> None:
  if path_out.exists() and not (path_out.is_dir() and not any(path_out.iterdir())):
    raise UserError(
      f"{path_out}: exists and is not an empty directory; nothing is overwritten,"
      " choose another path or remove it"
    )


def _check_fast(model: Decoder, fast: Params | None) -> None:
  check_fast(model, fast)
  if fast is not None and not has_delta(fast):
    raise UserError(
      "these fast weights hold no Delta to export (scaled_queries): give those of init_fast or of"
      " adapt"
    )


def _leaf(params: Params, path: tuple[str, ...]) -> jax.Array:
  for key in path:
    params = params[key]
  return params


def _delta(fast: Params) -> jax.Array:
  return _leaf(fast, (*tensor_layout.QUERY[:-1], "delta"))


def _write_weights(
  directory: pathlib.Path | None,
  code: str,
  config: DecoderConfig,
  params: Params,
  fast: Params | None,
) -> None:
  """Writes model.safetensors or shards and index; with no directory only takes part in gathers."""
  shards = _plan_shards(FAMILIES[config.model_type].file_shapes(config), DTYPES[code].itemsize)
  files = (
    [SINGLE_FILE]
    if len(shards) == 1
    else [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
  )
  tensors = _tensors(DTYPES[code], config, params, fast)
  for file, shard in zip(files, shards, strict=True):
    if directory is None:
      for _ in shard:
        next(tensors)
    else:
      _write_shard(directory / file, {name: next(tensors) for name in shard})
  next(tensors, None)  # Runs the generator to its end, where it reports the rounding error.
  if directory is not None and len(shards) > 1:
    total = sum(
      _num_bytes(shape, DTYPES[code].itemsize) for shard in shards for shape in shard.values()
    )
    weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
    write_json(
      directory / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map}
    )


def _plan_shards(shapes: _Shard, itemsize: int) -> list[_Shard]:
  """Fills shards in order, none larger than MAX_SHARD_BYTES unless one tensor is."""
  shards: list[_Shard] = [{}]
  used = 0
  for name, shape in shapes.items():
    size = _num_bytes(shape, itemsize)
    if shards[-1] and used + size > MAX_SHARD_BYTES:
      shards.append({})
      used = 0
    shards[-1][name] = shape
    used += size
  return shards


def _num_bytes(shape: tuple[int, ...], itemsize: int) -> int:
  return int(np.prod(shape, dtype=np.int64)) * itemsize


def _write_shard(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
  """Writes one file and waits until it is on the disk."""
  save_file(tensors, path, metadata={"format": "pt"})  # Transformers insists on it.
  path.chmod(0o644)  # The library's files are private.
  with open(path, "rb") as file:
    os.fsync(file.fileno())


def _tensors(
  dtype: np.dtype, config: DecoderConfig, params: Params, fast: Params | None
) -> Iterator[np.ndarray]:
  """The file's tensors in the order of `Family.file_shapes`, contiguous, on the host."""
  lost = moved = 0.0  # Squared norms: of the rounding of W_Q + Delta, and of Delta.
  for kind in FAMILIES[config.model_type].layouts_of(config):
    parameter = _leaf(params, kind.path)
    merges = fast is not None and kind.path == tensor_layout.QUERY
    for layer, name in enumerate(kind.names(config)):
      value = to_host(parameter[layer] if kind.stacked else parameter)
      if merges:
        delta = to_host(_delta(fast)[layer])
        value = value.astype(np.float32) + delta
        moved += np.sum(np.square(delta, dtype=np.float64))
      value = value.transpose(kind.to_file)
      with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(value, dtype)
      if merges:
        lost += np.sum(np.square(stored.astype(np.float64) - value))
      if not np.isfinite(stored).all():
        raise UserError(
          f"tensor {name} is not finite in {dtype}; export in float32, and if that"
          " fails too the weights themselves are broken"
        )
      yield stored.reshape(kind.file_shape(config))
  if fast is not None and dtype != np.float32 and jax.process_index() == 0:
    error = np.sqrt(lost / moved) if moved else 0.0
    print(
      f"export in {dtype} changes Delta by {error:.1%} (relative error after rounding)",
      file=sys.stderr,
    )
