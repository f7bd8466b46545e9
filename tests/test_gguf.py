"""GGUF files: logits as transformers computes them from the same file, on meshes, within memory."""

import os
import pathlib
import subprocess
import sys
import textwrap

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import gguf_files, hf
import tttjax as tt
from tttjax.checkpoint import open_checkpoint
from tttjax.checkpoint.gguf_header import read_header
from tttjax.checkpoint.gguf_tensor import QUANTISED, GgufTensor
from tttjax.checkpoint.stored_tensor import DTYPES
from tttjax.models.decoder_config import Llama3Config
from tttjax.sharding import make_mesh

LLAMA3 = dict(
  rope_type="llama3",
  rope_theta=5e5,
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=8192,
)
YARN = dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=128)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
  """A checkpoint directory to write files of."""
  return hf.make_checkpoint(
    tmp_path_factory.mktemp("llama"), model_type="llama", **gguf_files.SIZES
  )


def tokens(length: int = 96) -> np.ndarray:
  rng = np.random.default_rng(0)
  return rng.integers(0, gguf_files.SIZES["vocab_size"], (2, length)).astype(np.int32)


def error(ours, reference) -> float:
  return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


def our_logits(path) -> np.ndarray:
  model, params = tt.from_pretrained(path)
  return np.asarray(jax.jit(model.apply)({"params": params}, tokens()))


def their_logits(path) -> np.ndarray:
  model = AutoModelForCausalLM.from_pretrained(
    path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
  )
  with torch.no_grad():
    return model.eval()(torch.from_numpy(tokens().astype(np.int64))).logits.numpy()


@pytest.mark.parametrize("kind", [*DTYPES, *QUANTISED])
def test_logits_equal_those_of_transformers_from_the_same_file(llama, tmp_path, kind):
  path = gguf_files.write(tmp_path / "x.gguf", llama, kind)
  reference = their_logits(path)
  assert np.isfinite(reference).all() and reference.std() > 0.1
  assert error(our_logits(path), reference) < 1e-4


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_other_families_equal_transformers(tmp_path, model_type, tied):
  # Qwen2 has no head_dim of its own; transformers does not read Qwen3's and takes 128.
  own = dict(hidden_size=384) if model_type == "qwen2" else dict(head_dim=128)
  sizes = gguf_files.SIZES | own
  directory = hf.make_checkpoint(tmp_path / "hf", model_type=model_type, tied=tied, **sizes)
  path = gguf_files.write(tmp_path / "x.gguf", directory, "Q8_0")
  assert open_checkpoint(path).config.tie_word_embeddings == tied
  assert error(our_logits(path), their_logits(path)) < 1e-4


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_float32_file_is_the_checkpoint(tmp_path, model_type):
  """Against the directory that it was written from: no permutation is left, nothing is lost."""
  sizes = gguf_files.SIZES | dict(hidden_size=384)
  directory = hf.make_checkpoint(tmp_path / "hf", model_type=model_type, **sizes)
  path = gguf_files.write(tmp_path / "x.gguf", directory)
  _, expected = tt.from_pretrained(directory)
  model, params = tt.from_pretrained(path)
  jax.tree.map(np.testing.assert_array_equal, params, expected)
  assert model.config.model_type == model_type


def test_bfloat16_is_bit_exact(llama, tmp_path):
  path = gguf_files.write(tmp_path / "x.gguf", llama, "BF16")
  _, params = tt.from_pretrained(path, dtype=jnp.bfloat16)
  _, expected = tt.from_pretrained(llama, dtype=jnp.bfloat16)
  jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_part_of_a_tensor_is_that_part_of_the_whole(llama, tmp_path):
  """Also where it begins or ends within a head, whose rows lie permuted."""
  path = gguf_files.write(tmp_path / "x.gguf", llama, "Q4_0")
  stored = open_checkpoint(path).tensors["model.layers.1.self_attn.k_proj.weight"]
  assert isinstance(stored, GgufTensor)
  whole = stored.read((slice(None), slice(None)))
  for rows, columns in ((slice(0, 128), slice(None)), (slice(100, 300), slice(7, 9))):
    np.testing.assert_array_equal(stored.read((rows, columns)), whole[rows, columns])


@pytest.mark.parametrize("axes", [dict(tensor=2, fsdp=2, data=2), dict(tensor=8)], ids=str)
def test_three_kv_heads_load_onto_a_mesh(llama, tmp_path, axes):
  path = gguf_files.write(tmp_path / "x.gguf", llama, "Q4_1")
  _, whole = tt.from_pretrained(path)
  _, params = tt.from_pretrained(path, mesh=make_mesh(**axes))
  jax.tree.map(np.testing.assert_array_equal, params, whole)
  assert {len(x.sharding.device_set) for x in jax.tree.leaves(params)} == {8}


def llama3_factors(**changes) -> np.ndarray:
  """`rope_freqs.weight` as llama.cpp's converter computes it, in its words' meaning."""
  settings = LLAMA3 | changes
  head_dim = gguf_files.SIZES["head_dim"]
  frequencies = 1.0 / settings["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
  turns = settings["original_max_position_embeddings"] * frequencies / (2 * np.pi)
  smooth = (turns - settings["low_freq_factor"]) / (
    settings["high_freq_factor"] - settings["low_freq_factor"]
  )
  smooth = np.clip(smooth, 0, 1)
  return (1 / ((1 - smooth) / settings["factor"] + smooth)).astype(np.float32)


def test_llama3_extension_is_read_from_its_factors(tmp_path):
  directory = hf.make_checkpoint(
    tmp_path / "hf", model_type="llama", rope=LLAMA3, **gguf_files.SIZES
  )
  factors = {"rope_freqs.weight": (llama3_factors(), "F32")}
  path = gguf_files.write(tmp_path / "x.gguf", directory, tensors=factors)
  assert open_checkpoint(path).config.rope_scaling == Llama3Config(8.0, 1.0, 4.0, 8192)
  assert error(our_logits(path), hf.reference_logits(directory, tokens())) < 1e-4


def test_factors_of_one_extend_nothing(llama, tmp_path):
  factors = {"rope_freqs.weight": (np.ones(32, np.float32), "F32")}
  path = gguf_files.write(tmp_path / "x.gguf", llama, tensors=factors)
  assert open_checkpoint(path).config.rope_scaling is None


def test_yarn_is_read_from_the_metadata(tmp_path):
  directory = hf.make_checkpoint(tmp_path / "hf", rope=YARN, **gguf_files.SIZES)
  keys = {"type": "yarn", "factor": 4.0, "original_context_length": 128}
  path = gguf_files.write(
    tmp_path / "x.gguf",
    directory,
    metadata={f"qwen3.rope.scaling.{key}": value for key, value in keys.items()},
  )
  assert error(our_logits(path), hf.reference_logits(directory, tokens())) < 1e-4


def test_header_is_what_the_gguf_package_reads(llama, tmp_path):
  path = gguf_files.write(
    tmp_path / "x.gguf", llama, "Q6_K", {"a.flag": True, "general.alignment": 64}, pre="qwen2"
  )
  header, theirs = read_header(path), gguf.GGUFReader(path)
  ours = {key: value for key, value in header.metadata.items()}
  assert ours == {
    key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")
  }
  assert [(x.name, x.type, list(reversed(x.shape)), x.offset) for x in header.tensors.values()] == [
    (x.name, x.tensor_type.name, x.shape.tolist(), x.data_offset) for x in theirs.tensors
  ]


def test_what_old_files_leave_out_is_what_llama_cpp_assumes(tmp_path):
  sizes = gguf_files.SIZES | dict(hidden_size=384, num_key_value_heads=6)
  directory = hf.make_checkpoint(tmp_path / "hf", model_type="llama", **sizes)
  absent = ("attention.key_length", "attention.value_length", "attention.head_count_kv")
  metadata = {f"llama.{key}": None for key in absent}
  path = gguf_files.write(tmp_path / "x.gguf", directory, metadata=metadata)
  config = open_checkpoint(path).config
  assert (config.head_dim, config.num_key_value_heads) == (64, 6)


@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2"])
def test_tokenizer_equals_the_one_that_transformers_builds(llama, tmp_path, pre):
  path = gguf_files.write(tmp_path / "x.gguf", llama, pre=pre)
  ours = tt.load_tokenizer(path)
  theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
  text = gguf_files.TEXT + "<|im_start|>a<think>b<|im_end|>"
  ids = ours(text)["input_ids"]
  assert ids == theirs(text)["input_ids"] and len(set(ids)) > 100
  assert ours.decode(ids) == theirs.decode(ids) == text
  assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
  chat = [{"role": "user", "content": "Hi"}]
  assert ours.apply_chat_template(chat, tokenize=False) == "<|im_start|>Hi"
  checkpoint = open_checkpoint(path)
  assert checkpoint.stop_ids == (1,) and checkpoint.tokenizer.eos_token == "<|im_end|>"


def test_bos_stands_in_front_where_the_file_says_so(llama, tmp_path):
  for flag, expected in ((True, [0]), (False, []), (None, [])):
    metadata = {"tokenizer.ggml.add_bos_token": flag}
    path = gguf_files.write(tmp_path / "x.gguf", llama, metadata=metadata, pre="llama-bpe")
    tokenizer = tt.load_tokenizer(path)
    assert tokenizer("")["input_ids"] == expected
    assert tokenizer("", add_special_tokens=False)["input_ids"] == []


def test_qwen_composes_letters_and_their_accents(llama, tmp_path):
  tokenizer = tt.load_tokenizer(gguf_files.write(tmp_path / "x.gguf", llama, pre="qwen2"))
  assert tokenizer("e\u0301")["input_ids"] == tokenizer("\u00e9")["input_ids"]


def test_ends_of_turn_and_message_stop_too(llama, tmp_path):
  metadata = {"tokenizer.ggml.eot_token_id": 5, "tokenizer.ggml.eom_token_id": 7}
  path = gguf_files.write(tmp_path / "x.gguf", llama, metadata=metadata, pre="llama-bpe")
  checkpoint = open_checkpoint(path)
  assert checkpoint.stop_ids == (1, 5, 7)
  assert checkpoint.trained_length == 512


def test_exported_with_the_file_as_source_it_has_tokenizer_and_ids(llama, tmp_path):
  path = gguf_files.write(tmp_path / "x.gguf", llama, "Q8_0", pre="qwen2")
  model, params = tt.from_pretrained(path)
  out = tt.export(tmp_path / "out", model, params, source=path)
  opened, theirs = open_checkpoint(out), AutoTokenizer.from_pretrained(out)
  assert opened.stop_ids == (1,) and opened.config == model.config
  assert theirs(gguf_files.TEXT)["input_ids"] == tt.load_tokenizer(path)(gguf_files.TEXT).input_ids
  assert error(hf.reference_logits(out, tokens()), their_logits(path)) < 1e-4


def test_fingerprint_is_the_files_own(llama, tmp_path):
  first = open_checkpoint(gguf_files.write(tmp_path / "x.gguf", llama)).fingerprint
  again = open_checkpoint(gguf_files.write(tmp_path / "x.gguf", llama)).fingerprint
  other = open_checkpoint(gguf_files.write(tmp_path / "x.gguf", llama, "F16")).fingerprint
  assert first == again != other


MEMORY_PROBE = """
    import gc, sys
    import jax
    from tttjax.checkpoint import from_pretrained
    from tttjax.sharding import make_mesh

    def status(key):
      with open('/proc/self/status') as file:
        return next(1024 * int(l.split()[1]) for l in file if l.startswith(key))

    def load(mesh):
      params = from_pretrained(sys.argv[1], mesh=mesh)[1]
      return sum(x.nbytes for x in jax.tree.leaves(jax.block_until_ready(params)))

    for mesh in (None, make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])):
      load(mesh)  # Compiles.
      gc.collect()
      with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')  # Resets the peak.
      before = status('VmRSS')
      num_bytes = load(mesh)
      print((status('VmHWM') - before - num_bytes) / (4 * 384 * 16384))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_peak_memory_is_the_parameters_and_less_than_two_tensors(tmp_path):
  """Tensors as float32, which is what they become; the file has a quarter of that."""
  sizes = dict(hidden_size=384, intermediate_size=16384, num_hidden_layers=3)
  directory = hf.make_checkpoint(tmp_path, model_type="llama", **gguf_files.SIZES | sizes)
  path = gguf_files.write(tmp_path / "x.gguf", directory, "Q8_0")
  environment = os.environ | {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "PYTHONPATH": str(pathlib.Path(__file__).parents[1]),
  }
  probe = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(MEMORY_PROBE), str(path)],
    env=environment,
    check=True,
    capture_output=True,
    text=True,
  )
  for largest_tensors in map(float, probe.stdout.split()):
    assert largest_tensors < 2
