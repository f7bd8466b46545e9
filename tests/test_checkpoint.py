"""Loading: equal to transformers, sliced, within memory."""

import os
import pathlib
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
import torch
from transformers import AutoModelForCausalLM

from tests import hf
from tttjax.checkpoint import from_pretrained, loading
from tttjax.models.decoder import Decoder, abstract_params
from tttjax.models.decoder_config import DecoderConfig
from tttjax.models.qwen3 import QWEN3
from tttjax.sharding import make_mesh

YARN = dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=128)
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def tokens(length: int = 160) -> np.ndarray:
  return np.random.default_rng(0).integers(0, hf.SIZES["vocab_size"], (2, length)).astype(np.int32)


@pytest.mark.parametrize(
  "options",
  [
    dict(),
    dict(tied=True),
    dict(tied=True, rope=YARN),
    dict(dtype="bfloat16", shard_size="20KB"),
    dict(dtype="float16"),
  ],
  ids=["untied", "tied", "tied, YaRN", "bfloat16 shards", "float16"],
)
def test_logits_equal_transformers(tmp_path, options):
  directory = hf.make_checkpoint(tmp_path, **options)
  assert (directory / INDEX).exists() == ("shard_size" in options)
  model, params = from_pretrained(directory)
  assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype(np.float32)}  # Default on CPU.
  reference = hf.reference_logits(directory, tokens())
  ours = jax.jit(model.apply)({"params": params}, tokens())
  np.testing.assert_allclose(ours, reference, rtol=0, atol=3e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_table_of_names_covers_the_model(tied):
  config = DecoderConfig(**hf.SIZES, rope_theta=1e4, tie_word_embeddings=tied)
  abstract = abstract_params(Decoder(config))
  for layout in QWEN3.layouts_of(config):
    leaf = abstract
    for key in layout.path:
      leaf = leaf[key]
    layers = (config.num_hidden_layers,) if layout.stacked else ()
    in_file = layout.split_shape(config)
    assert leaf.shape == layers + tuple(in_file[i] for i in layout.from_file), layout.name
  assert len(list(QWEN3.layouts_of(config))) == len(jax.tree.leaves(abstract))


def test_bfloat16_is_bit_exact(tmp_path):
  hf.make_checkpoint(tmp_path, dtype="bfloat16")
  model, params = from_pretrained(tmp_path, dtype=jnp.bfloat16)
  assert model.dtype == jnp.bfloat16
  kernel = params["layers"]["attention"]["output"]["kernel"]
  assert kernel.dtype == jnp.bfloat16
  theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).model.layers[2]
  theirs = theirs.self_attn.o_proj.weight.detach().float().numpy().T.reshape(kernel.shape[1:])
  np.testing.assert_array_equal(np.asarray(kernel[2], np.float32), theirs)


def test_sharded_load_puts_each_slice_once_on_its_devices(tmp_path, monkeypatch):
  hf.make_checkpoint(tmp_path)
  elements = []
  read = loading._read_slice

  def counted(*args):
    out = read(*args)
    elements.append(out.size)
    return out

  monkeypatch.setattr(loading, "_read_slice", counted)
  mesh = make_mesh(data=2, fsdp=2, tensor=2)
  model, params = from_pretrained(tmp_path, mesh=mesh)
  sizes = sum(x.size for x in jax.tree.leaves(params))
  assert sum(elements) == sizes  # Although the data axis holds everything twice.
  for x, leaf in zip(jax.tree.leaves(params), jax.tree.leaves(abstract_params(model)), strict=True):
    assert x.sharding.is_equivalent_to(leaf.sharding, x.ndim)
  query = params["layers"]["attention"]["query"]["kernel"]
  assert query.addressable_shards[0].data.shape == (3, 10, 3, 8)  # Of [3, 20, 6, 8].
  _, whole = from_pretrained(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, params, whole)


def test_tied_checkpoint_may_carry_an_equal_head_and_old_buffers(tmp_path):
  hf.make_checkpoint(tmp_path, tied=True)
  _, params = from_pretrained(tmp_path)
  hf.rewrite(
    tmp_path,
    **{
      HEAD: load_file(tmp_path / WEIGHTS)[EMBEDDING],
      "model.rotary_emb.inv_freq": np.ones(4, np.float32),
    },
  )
  _, again = from_pretrained(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, params, again)


MEMORY_PROBE = """
    import gc, json, struct, sys
    import jax, numpy as np
    import jax.numpy as jnp
    from tttjax.checkpoint import from_pretrained, write_config
    from tttjax.models.decoder_config import DecoderConfig
    from tttjax.models.qwen3 import QWEN3
    from tttjax.sharding import make_mesh

    directory = sys.argv[1]
    config = DecoderConfig(512, 512, 8192, 4, 4, 2, 128, 1e4, 512)
    with open(directory + '/config.json', 'w') as file:
      json.dump(write_config(config, jnp.float32), file)
    header, end = {}, 0
    for name, shape in QWEN3.file_shapes(config).items():
      begin, end = end, end + 4 * int(np.prod(shape))
      header[name] = dict(dtype='F32', shape=shape, data_offsets=[begin, end])
    text = json.dumps(header).encode()
    with open(directory + '/model.safetensors', 'wb') as file:
      file.write(struct.pack('<Q', len(text)) + text)
      file.truncate(8 + len(text) + end)  # Zeros, without writing them.

    def status(key):
      with open('/proc/self/status') as file:
        return next(1024 * int(l.split()[1]) for l in file if l.startswith(key))

    def load(mesh):
      params = from_pretrained(directory, mesh=mesh)[1]
      return sum(x.nbytes for x in jax.tree.leaves(jax.block_until_ready(params)))

    for mesh in (None, make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])):
      load(mesh)  # Compiles.
      gc.collect()
      with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')  # Resets the peak.
      before = status('VmRSS')
      num_bytes = load(mesh)
      print((status('VmHWM') - before - num_bytes) / (4 * 512 * 8192))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_peak_memory_is_the_parameters_and_less_than_two_tensors(tmp_path):
  # A process of its own, whose allocator returns memory at once.
  environment = os.environ | {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "PYTHONPATH": str(pathlib.Path(__file__).parents[1]),
  }
  probe = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(MEMORY_PROBE), str(tmp_path)],
    env=environment,
    check=True,
    capture_output=True,
    text=True,
  )
  for largest_tensors in map(float, probe.stdout.split()):
    assert largest_tensors < 2
