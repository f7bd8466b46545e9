"""GGUF files of small checkpoints, written by the gguf package as llama.cpp's converter does."""

import json
import pathlib
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

# Rows of most matrices are whole blocks of every type; as in tests/hf.py no two sizes agree.
SIZES = dict(
  vocab_size=320,
  hidden_size=768,
  intermediate_size=512,
  num_hidden_layers=2,
  num_attention_heads=6,
  num_key_value_heads=3,
  head_dim=64,
  max_position_embeddings=512,
)
# Of blocks that gguf.quants reads and does not write: bytes where a float16 scale begins.
_SCALES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
TEXT = (
  pathlib.Path(__file__).read_text(encoding="utf-8") + "naïve Ünïcödé 12345  67\n\n\t8 I'M we'll"
)


def write(
  path,
  directory,
  kind: str = "F32",
  metadata: dict[str, Any] | None = None,
  drop=(),
  tensors: dict[str, tuple[np.ndarray, str]] | None = None,
  pre: str | None = None,
) -> pathlib.Path:
  """Writes a GGUF file of a checkpoint directory in float32, and returns its path.

  Args:
    path: file to write.
    directory: checkpoint in Hugging Face's layout.
    kind: type of matrices. As llama.cpp writes them, those whose rows are no whole blocks of it
      are Q8_0, and vectors F32.
    metadata: replaces or adds keys; None leaves one out.
    drop: tensors to leave out, by the file's name.
    tensors: replace or add tensors: float32 values and type, by the file's name.
    pre: adds a small byte-level tokenizer of that way of splitting.
  """
  config = json.loads((pathlib.Path(directory) / "config.json").read_text())
  stored = _named(config, load_file(pathlib.Path(directory) / "model.safetensors"))
  values = {name: (x, _fitting(kind, x)) for name, x in stored}
  values |= tensors or {}
  keys = {**_metadata(config), **(_tokenizer(pre) if pre else {}), **(metadata or {})}
  writer = gguf.GGUFWriter(path, keys.pop("general.architecture", None))
  for key, value in keys.items():
    _add(writer, key, value)
  for name, (x, as_type) in values.items():
    if name not in drop:
      number = gguf.GGMLQuantizationType[as_type]
      writer.add_tensor(name, quantise(x, as_type), raw_dtype=number)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return pathlib.Path(path)


def _fitting(kind: str, x: np.ndarray) -> str:
  size, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
  return "F32" if x.ndim == 1 else "Q8_0" if x.shape[-1] % size else kind


def quantise(x: np.ndarray, kind: str) -> np.ndarray:
  """Blocks of x [rows, columns]; of the K types, which the package does not write, random ones."""
  number = gguf.GGMLQuantizationType[kind]
  if kind not in _SCALES:
    return gguf.quants.quantize(x, number)
  size, size_bytes = gguf.GGML_QUANT_SIZES[number]
  rng = np.random.default_rng(x.size)
  blocks = rng.integers(0, 256, (*x.shape[:-1], x.shape[-1] // size, size_bytes), np.uint8)
  for start in _SCALES[kind]:
    scales = rng.normal(0, 1e-3, (*blocks.shape[:-1], 1)).astype(np.float16)
    blocks[..., start : start + 2] = scales.view(np.uint8)
  return blocks.reshape(*x.shape[:-1], -1)


def _named(config, stored):
  """Tensors under the file's names, rows of llama's queries and keys permuted."""
  architecture = next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == config["model_type"])
  table = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
  heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
  for name, x in stored.items():
    projection = name.split(".")[-2]
    if config["model_type"] == "llama" and projection in heads:
      x = x.reshape(heads[projection], 2, -1, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
    yield table.get_name(name, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(x)


def _metadata(config):
  model_type = config["model_type"]
  values = {
    "vocab_size": config["vocab_size"],
    "context_length": config["max_position_embeddings"],
    "embedding_length": config["hidden_size"],
    "block_count": config["num_hidden_layers"],
    "feed_forward_length": config["intermediate_size"],
    "attention.head_count": config["num_attention_heads"],
    "attention.head_count_kv": config["num_key_value_heads"],
    "attention.key_length": config["head_dim"],
    "attention.value_length": config["head_dim"],
    "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
    "rope.dimension_count": config["head_dim"],
    "rope.freq_base": float(config["rope_parameters"]["rope_theta"]),
  }
  return {
    "general.architecture": model_type,
    "general.name": "tiny",
    **{f"{model_type}.{key}": value for key, value in values.items()},
  }


def _tokenizer(pre):
  """A vocabulary trained on `TEXT`, with the special tokens that a chat needs."""
  bpe = Tokenizer(models.BPE())
  bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  special = ["<|im_start|>", "<|im_end|>", "<think>"]
  trainer = trainers.BpeTrainer(
    vocab_size=SIZES["vocab_size"],
    special_tokens=special,
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    show_progress=False,
  )
  bpe.train_from_iterator([TEXT], trainer)
  vocab = sorted(bpe.get_vocab(), key=bpe.get_vocab().get)
  merges = json.loads(bpe.to_str())["model"]["merges"]
  return {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": pre,
    "tokenizer.ggml.tokens": vocab,
    "tokenizer.ggml.token_type": [3, 3, 4] + [1] * (len(vocab) - 3),
    "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.chat_template": "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}",
  }


def _add(writer, key, value):
  """One key; integers are uint32 and floats float32, as llama.cpp writes them."""
  match value:
    case None:
      pass
    case bool():
      writer.add_bool(key, value)
    case int():
      writer.add_uint32(key, value)
    case float():
      writer.add_float32(key, value)
    case str():
      writer.add_string(key, value)
    case list():
      writer.add_array(key, value)
