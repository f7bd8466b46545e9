"""Metadata of a GGUF file -> `DecoderConfig`, through the reader of config.json.

The keys are llama.cpp's; each is read as the field of config.json that it stands for, so that
both kinds of checkpoints have the same checks, and errors name the key.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from tttjax.checkpoint.config_json import decoder_config
from tttjax.checkpoint.fields import Fields, shown
from tttjax.checkpoint.gguf_header import Header
from tttjax.checkpoint.gguf_tensor import GgufTensor
from tttjax.errors import UserError
from tttjax.models.decoder_config import DecoderConfig, Llama3Config
from tttjax.models.rope import inverse_frequencies

ARCHITECTURES = ("llama", "qwen2", "qwen3")
ROPE_FACTORS = "rope_freqs.weight"
LM_HEAD = "output.weight"

# Field of config.json: key, after the architecture's name and a dot.
_KEYS = {
  "vocab_size": "vocab_size",
  "hidden_size": "embedding_length",
  "intermediate_size": "feed_forward_length",
  "num_hidden_layers": "block_count",
  "num_attention_heads": "attention.head_count",
  "num_key_value_heads": "attention.head_count_kv",
  "head_dim": "attention.key_length",
  "max_position_embeddings": "context_length",
  "rms_norm_eps": "attention.layer_norm_rms_epsilon",
  "rope_theta": "rope.freq_base",
}
_ROPE_KEYS = {
  "rope_type": "rope.scaling.type",
  "factor": "rope.scaling.factor",
  "original_max_position_embeddings": "rope.scaling.original_context_length",
  "beta_fast": "rope.scaling.yarn_beta_fast",
  "beta_slow": "rope.scaling.yarn_beta_slow",
}
# Keys that change the computation, with the one value that is implemented.
_ONLY = {
  "expert_count": 0,
  "attention.causal": True,
  "attention.sliding_window": 0,
  "attention.clamp_kqv": 0.0,
  "attention.max_alibi_bias": 0.0,
  "attention.scale": 0.0,
  "attn_logit_softcapping": 0.0,
  "final_logit_softcapping": 0.0,
  "embedding_scale": 1.0,
  "logit_scale": 1.0,
  "residual_scale": 1.0,
  "rope.scale_linear": 1.0,
  "rope.scaling.attn_factor": 1.0,
  "rope.scaling.yarn_attn_factor": 1.0,
  "rope.scaling.yarn_ext_factor": 1.0,
}
# Llama 3.1 and later: the only extension that files give as a tensor. Files hold the factors of
# the frequencies, not the settings that they came from; those published differ in `factor` alone.
_LLAMA3 = {
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 8192,
}


def read_gguf_config(header: Header) -> DecoderConfig:
  """The architecture that a GGUF file describes.

  Raises:
    UserError: the architecture is not implemented, a key is missing or has a wrong value, or the
      file uses something that is not implemented.
  """
  fields = _fields(header)
  config = decoder_config(fields)
  _check_rotation(header, config)
  if ROPE_FACTORS in header.tensors and config.model_type == "llama":
    config = dataclasses.replace(config, rope_scaling=_llama3_scaling(header, config))
  return config


def _fields(header: Header) -> Fields:
  """The metadata under the names of config.json."""
  metadata, architecture = header.metadata, header.metadata.get("general.architecture")
  if architecture not in ARCHITECTURES:
    raise UserError(
      f"{header.path}: architecture {shown(architecture)} is not supported in GGUF files; use a"
      f" file of {', '.join(ARCHITECTURES)}, or the model's safetensors directory if its family is"
      " implemented"
    )
  _check_only(header.path, metadata, architecture)
  prefix = f"{architecture}."
  get = lambda key: metadata.get(prefix + key)
  values = {field: get(key) for field, key in _KEYS.items()}
  heads, hidden = values["num_attention_heads"], values["hidden_size"]
  if values["num_key_value_heads"] is None:
    values["num_key_value_heads"] = heads  # llama.cpp's default.
  if values["head_dim"] is None and type(heads) is type(hidden) is int and heads > 0:
    values["head_dim"] = hidden // heads if hidden % heads == 0 else None
  if values["vocab_size"] is None:
    tokens = metadata.get("tokenizer.ggml.tokens")
    values["vocab_size"] = len(tokens) or None if isinstance(tokens, list) else None
  names = {field: prefix + key for field, key in _KEYS.items()}
  names |= {f"rope_scaling.{field}": prefix + key for field, key in _ROPE_KEYS.items()}
  rope = {field: value for field, key in _ROPE_KEYS.items() if (value := get(key)) is not None}
  if rope.get("rope_type", "none") == "none":
    rope = {}
  values |= {
    "model_type": architecture,
    "tie_word_embeddings": LM_HEAD not in header.tensors,
    "rope_scaling": rope or None,
  }
  fields = Fields(header.path, values, keys=names)
  for name in ("vocab_size", "head_dim", "rms_norm_eps"):  # Families have defaults; files have not.
    fields.required(name)
  return fields


def _check_only(path: pathlib.Path, metadata: dict[str, Any], architecture: str) -> None:
  for key, implemented in _ONLY.items():
    value = metadata.get(f"{architecture}.{key}")
    if value is not None and value != implemented:
      raise UserError(
        f"{path}: key '{architecture}.{key}' is {shown(value)}, which is not implemented; use a"
        " dense model with full attention"
      )
  # llama.cpp files these under llama; their sliding window is not in the file.
  for key in ("general.name", "general.basename"):
    name = str(metadata.get(key, ""))
    if architecture == "llama" and ("mistral" in name.lower() or "mixtral" in name.lower()):
      raise UserError(
        f"{path}: key {key!r} is {shown(name)}: Mistral's releases differ in sliding-window"
        " attention, which is not implemented; use Llama 3, SmolLM2, Qwen2.5 or Qwen3"
      )


def _check_rotation(header: Header, config: DecoderConfig) -> None:
  """Heads are rotated whole, and values are as long as keys."""
  for key in ("rope.dimension_count", "attention.value_length"):
    value = header.metadata.get(f"{config.model_type}.{key}", config.head_dim)
    if value != config.head_dim:
      raise UserError(
        f"{header.path}: key '{config.model_type}.{key}' is {shown(value)} but heads have"
        f" {config.head_dim} dimensions, and only the same is implemented; use another model"
      )


def _llama3_scaling(header: Header, config: DecoderConfig) -> Llama3Config | None:
  """The settings that give the factors in the file; None where all are 1."""
  info = header.tensors[ROPE_FACTORS]
  refused = UserError(
    f"{header.path}: tensor {ROPE_FACTORS} is not Llama 3's extension from 8,192 positions, the"
    " only one that is implemented; use a Llama 3 release, or its safetensors directory"
  )
  if info.type != "F32" or info.shape != (config.head_dim // 2,) or config.rope_scaling:
    raise refused
  factors = GgufTensor(header.path, info).read((slice(None),))
  if (factors == 1).all():
    return None
  settings = Llama3Config(float(factors.max()), **_LLAMA3)
  if not settings.factor > 1:
    raise refused
  plain, _ = inverse_frequencies(config)
  scaled, _ = inverse_frequencies(dataclasses.replace(config, rope_scaling=settings))
  if not np.allclose(plain / scaled, factors, rtol=1e-4, atol=0):
    raise refused
  return settings
