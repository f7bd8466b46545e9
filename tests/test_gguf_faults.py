"""Every GGUF file that cannot be loaded is refused in one line: file, tensor or key, remedy."""

import pathlib
import struct
import subprocess
import sys

import gguf
import numpy as np
import pytest

from tests import gguf_files, hf
import tttjax as tt
from tttjax.checkpoint import open_checkpoint
from tttjax.errors import UserError

SIZES = dict(
  vocab_size=320,
  hidden_size=64,
  intermediate_size=96,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=16,
  max_position_embeddings=512,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return hf.make_checkpoint(tmp_path_factory.mktemp("llama"), model_type="llama", **SIZES)


def refusal(path, call=open_checkpoint) -> str:
  with pytest.raises(UserError) as caught:
    call(path)
  message = str(caught.value)
  assert len(message.splitlines()) == 1 and str(path) in message
  return message


BAD_METADATA = {
  "another architecture": ({"general.architecture": "gemma2"}, "'gemma2' is not supported.*llama"),
  "experts": ({"llama.expert_count": 8}, "'llama.expert_count' is 8.*dense"),
  "sliding window": ({"llama.attention.sliding_window": 4096}, "sliding_window' is 4096"),
  "a Mistral": ({"general.name": "Mistral 7B v0.1"}, "'general.name' is 'Mistral 7B v0.1'.*use"),
  "one part": ({"split.count": 3}, "one of 3 parts.*--merge"),
  "no layers": ({"llama.block_count": None}, "'llama.block_count' is missing; restore the file"),
  "no epsilon": ({"llama.attention.layer_norm_rms_epsilon": None}, "rms_epsilon' is missing"),
  "no base": ({"llama.rope.freq_base": None}, "'llama.rope.freq_base' is missing.*never assumed"),
  "heads as text": ({"llama.attention.head_count": "4"}, "'llama.attention.head_count' is '4'"),
  "heads by layer": ({"llama.attention.head_count_kv": [2, 1]}, "head_count_kv' is .* integer"),
  "other rotation": ({"llama.rope.dimension_count": 8}, "dimension_count' is 8.*16 dimensions"),
  "other values": ({"llama.attention.value_length": 8}, "value_length' is 8"),
  "linear scaling": ({"llama.rope.scaling.type": "linear"}, "scaling.type' is 'linear'.*yarn"),
  "scaled mscale": ({"llama.rope.scaling.attn_factor": 2.0}, "attn_factor' is 2.0"),
  "too many layers": ({"llama.block_count": 1_000_000_000}, "'llama.block_count' is 1000000000"),
  "one layer more": ({"llama.block_count": 3}, "tensor blk.2.attn_norm.weight is missing"),
  "one layer less": ({"llama.block_count": 1}, "unexpected tensor blk.1.*block_count"),
  "other sizes": ({"llama.feed_forward_length": 128}, r"blk.0.ffn_\w+.weight has shape.*128"),
  "no vocabulary": (
    {"llama.vocab_size": None, "tokenizer.ggml.tokens": 5},
    "'llama.vocab_size' is missing",
  ),
  "name as a list": (
    {"general.name": ["Mistral"] * 500},
    "general.name' is .{10,120}: Mis",
  ),
  "huge base": ({"llama.rope.freq_base": float("inf")}, "freq_base' is inf but must be a positive"),
  "stop id": ({"tokenizer.ggml.eos_token_id": 999}, "eos_token_id' is 999.*vocabulary of 320"),
}


@pytest.mark.parametrize("metadata, words", BAD_METADATA.values(), ids=BAD_METADATA.keys())
def test_metadata_that_is_not_implemented(directory, tmp_path, metadata, words):
  path = gguf_files.write(tmp_path / "x.gguf", directory, metadata=metadata)
  with pytest.raises(UserError, match=words):
    open_checkpoint(path)
  refusal(path)


def test_missing_tensor(directory, tmp_path):
  path = gguf_files.write(tmp_path / "x.gguf", directory, drop=["blk.1.attn_k.weight"])
  assert "tensor blk.1.attn_k.weight is missing" in refusal(path)


@pytest.mark.parametrize("name", ["x" * 5000, "two\nlines"])
def test_name_that_no_tensor_has_is_shortened(directory, tmp_path, name):
  tensors = {name: (np.zeros(4, np.float32), "F32")}
  path = gguf_files.write(tmp_path / "x.gguf", directory, tensors=tensors)
  message = refusal(path)
  assert "corrupt: a tensor is called" in message and len(message) < len(str(path)) + 300


def test_type_that_is_not_read(directory, tmp_path):
  tensors = {"blk.1.ffn_up.weight": (np.zeros((96, 64), np.float32), "IQ4_NL")}
  path = tmp_path / "x.gguf"
  with pytest.MonkeyPatch.context() as patch:  # The package reads these blocks only.
    patch.setattr(gguf_files, "quantise", zero_blocks)
    gguf_files.write(path, directory, tensors=tensors)
  assert "tensor blk.1.ffn_up.weight has type IQ4_NL, supported are BF16" in refusal(path)


def zero_blocks(x, kind):
  size, size_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
  return np.zeros((*x.shape[:-1], x.shape[-1] // size * size_bytes), np.uint8)


def test_type_that_nobody_knows(directory, tmp_path):
  path = gguf_files.write(tmp_path / "x.gguf", directory)
  data = path.read_bytes()
  name = b"blk.1.ffn_up.weight"
  place = data.index(name) + len(name) + 4 + 2 * 8  # Behind the number of axes and two sizes.
  path.write_bytes(data[:place] + struct.pack("<I", 999) + data[place + 4 :])
  assert "tensor blk.1.ffn_up.weight has type number 999" in refusal(path)


def test_factors_of_another_extension(directory, tmp_path):
  factors = np.linspace(1, 3, 8, dtype=np.float32)
  for values in (factors, np.ones(4, np.float32), np.full(8, np.nan, np.float32)):
    tensors = {"rope_freqs.weight": (values, "F32")}
    path = gguf_files.write(tmp_path / "x.gguf", directory, tensors=tensors)
    assert "tensor rope_freqs.weight is not Llama 3's extension" in refusal(path)


@pytest.mark.parametrize("part", [0, 3, 30, 500, 5000, -1])
def test_truncated_file(directory, tmp_path, part):
  path = gguf_files.write(tmp_path / "x.gguf", directory, pre="qwen2")
  path.write_bytes(path.read_bytes()[:part])
  assert ("truncated" if part not in (0, 3) else "is not a GGUF file") in refusal(path)
  assert "fetch the file again" in refusal(path)


def test_file_that_shrinks_after_it_was_opened(directory, tmp_path):
  path = gguf_files.write(tmp_path / "x.gguf", directory)
  checkpoint = open_checkpoint(path)
  path.write_bytes(path.read_bytes()[:-1000])
  message = refusal(path, lambda _: tt.from_pretrained(checkpoint))
  assert "truncated: tensor" in message


def test_corrupt_length_takes_no_memory(directory, tmp_path):
  path = gguf_files.write(tmp_path / "x.gguf", directory, pre="qwen2")
  data = path.read_bytes()
  key = b"tokenizer.ggml.tokens"
  place = data.index(key) + len(key) + 8  # Behind the types of the value and its elements.
  path.write_bytes(data[:place] + struct.pack("<Q", 1 << 60) + data[place + 8 :])
  assert "corrupt" in refusal(path)


def test_arrays_within_arrays_do_not_exhaust_the_stack(tmp_path):
  path = tmp_path / "x.gguf"
  array = struct.pack("<IQ", 9, 1)  # An array of one element, an array.
  head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k"
  path.write_bytes(head + struct.pack("<I", 9) + array * 5000)
  assert "corrupt: an array of arrays" in refusal(path)


def test_not_a_gguf_file(tmp_path):
  path = tmp_path / "x.gguf"
  path.write_text("version https://git-lfs.github.com/spec/v1\n")
  assert "is not a GGUF file, or a mere pointer" in refusal(path)
  assert "no such file" in refusal(tmp_path / "absent.gguf")


@pytest.mark.parametrize("version", [1, 4, 3 << 24])
def test_other_versions(directory, tmp_path, version):
  path = gguf_files.write(tmp_path / "x.gguf", directory)
  data = path.read_bytes()
  path.write_bytes(data[:4] + struct.pack("<I", version) + data[8:])
  assert f"GGUF version {version}" in refusal(path)


BAD_TOKENIZERS = {
  "none": ({"tokenizer.ggml.model": None}, "'tokenizer.ggml.model' is None.*gpt2"),
  "sentencepiece": ({"tokenizer.ggml.model": "llama"}, "'tokenizer.ggml.model' is 'llama'"),
  "another split": ({"tokenizer.ggml.pre": "tekken"}, "'tokenizer.ggml.pre' is 'tekken'.*qwen2"),
  "twice a token": ({"tokenizer.ggml.tokens": ["a", "a"]}, "has a token twice"),
  "template": ({"tokenizer.chat_template": "{{ 1 / 0 }}"}, "chat_template fails.*the metadata"),
  "tokens as a number": ({"tokenizer.ggml.tokens": 5}, "'tokenizer.ggml.tokens' is 5"),
  "tokens as numbers": ({"tokenizer.ggml.tokens": [1, 2]}, "tokens' must be a list of texts"),
  "merges as numbers": ({"tokenizer.ggml.merges": [1, 2]}, "merges' must be a list of texts"),
  "types as a number": ({"tokenizer.ggml.token_type": 5}, "token_type' is 5 but must be a list"),
  "template as a number": ({"tokenizer.chat_template": 5}, "chat_template' is 5 but must be"),
  "merges": ({"tokenizer.ggml.merges": ["nosuchtoken x"]}, "cannot build the tokenizer"),
}


@pytest.mark.parametrize("metadata, words", BAD_TOKENIZERS.values(), ids=BAD_TOKENIZERS.keys())
def test_tokenizer_that_cannot_be_built(directory, tmp_path, metadata, words):
  """The weights load all the same."""
  path = gguf_files.write(tmp_path / "x.gguf", directory, metadata=metadata, pre="qwen2")
  tt.from_pretrained(path)
  with pytest.raises(UserError, match=words):
    tt.load_tokenizer(path)
  refusal(path, tt.load_tokenizer)


def test_without_the_gguf_package_one_line_says_what_to_install(directory, tmp_path):
  path = gguf_files.write(tmp_path / "x.gguf", directory)
  code = f"""
import sys
sys.modules["gguf"] = None
import tttjax as tt
try:
  tt.from_pretrained({str(path)!r})
except tt.UserError as error:
  print(error)
"""
  done = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    check=True,
    cwd=pathlib.Path(__file__).parents[1],
  )
  assert len(done.stdout.splitlines()) == 1
  assert "pip install 'tttjax[gguf]'" in done.stdout
