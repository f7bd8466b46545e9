"""config.json <-> `DecoderConfig`: what is read, what is refused and why.

Nothing is guessed: a field that decides the architecture and is absent is an error, except where
the model's family has a fixed default that published checkpoints rely on. What families differ in
is said in tttjax/models, a file for each.
"""

from typing import Any

import numpy as np

from tttjax.checkpoint.fields import Fields, read_json, shown
from tttjax.checkpoint.paths import checkpoint_directory
from tttjax.checkpoint.rope_json import read_rope, write_rope
from tttjax.models.decoder_config import DecoderConfig
from tttjax.models.families import FAMILIES, NOT_IMPLEMENTED
from tttjax.models.family import Family


def read_config(directory) -> DecoderConfig:
  """Reads and checks config.json of a checkpoint of one of the families.

  Args:
    directory: path of a checkpoint in Hugging Face's layout, of transformers 4 or 5.

  Returns:
    The architecture, with YaRN settings resolved as transformers resolves them.

  Raises:
    UserError: the directory or the file is missing or invalid, a field is missing or has the
      wrong type, or the checkpoint uses something that is not implemented.
  """
  path = checkpoint_directory(directory) / "config.json"
  return decoder_config(Fields(path, read_json(path)))


def decoder_config(fields: Fields) -> DecoderConfig:
  """The architecture that the fields of a config.json describe; raises as `read_config` does."""
  family = _read_family(fields)
  _check_unsupported(fields, family)

  heads = fields.size("num_attention_heads")
  kv_heads = fields.size("num_key_value_heads")
  if heads % kv_heads:
    raise fields.error(
      "num_key_value_heads",
      f"is {kv_heads}, which does not divide num_attention_heads = {heads}; correct it",
    )
  hidden_size = fields.size("hidden_size")
  max_positions = fields.size("max_position_embeddings")
  theta, rope_scaling = read_rope(fields, max_positions, family)
  return DecoderConfig(
    vocab_size=fields.size("vocab_size"),
    hidden_size=hidden_size,
    intermediate_size=fields.size("intermediate_size"),
    num_hidden_layers=fields.size("num_hidden_layers"),
    num_attention_heads=heads,
    num_key_value_heads=kv_heads,
    head_dim=_read_head_dim(fields, family, hidden_size, heads),
    rope_theta=theta,
    max_position_embeddings=max_positions,
    rms_norm_eps=fields.positive("rms_norm_eps", family.defaults["rms_norm_eps"]),
    tie_word_embeddings=fields.flag("tie_word_embeddings", family.defaults["tie_word_embeddings"]),
    rope_scaling=rope_scaling,
    **family.decoder,
    model_type=family.model_type,
  )


def _read_head_dim(fields: Fields, family: Family, hidden_size: int, heads: int) -> int:
  default = family.defaults.get("head_dim", 0)
  if default is None:
    default, remainder = divmod(hidden_size, heads)
    if remainder and fields.values.get("head_dim") is None:
      raise fields.error(
        "num_attention_heads",
        f"is {heads}, which does not divide hidden_size = {hidden_size}; correct it or add"
        " head_dim",
      )
  head_dim = fields.size("head_dim", default or None)
  if head_dim % 2:
    raise fields.error(
      "head_dim", f"is {head_dim} but rotary embeddings need an even number; correct it"
    )
  return head_dim


def _read_family(fields: Fields) -> Family:
  fields.required("model_type")
  model_type = fields.get("model_type", str, "a string", None)
  if model_type not in FAMILIES:
    implemented = ", ".join(map(repr, FAMILIES))
    reason = NOT_IMPLEMENTED.get(model_type, f"only {implemented} is implemented")
    releases = " or ".join(family.releases for family in FAMILIES.values())
    raise fields.error(
      "model_type", f"is {shown(model_type)}, which is not supported: {reason}; use {releases}"
    )
  family = FAMILIES[model_type]
  architectures = fields.get("architectures", list, "a list of strings", [])
  if architectures and family.architecture not in architectures:
    raise fields.error(
      "architectures",
      f"is {shown(architectures)}, which is not supported: only "
      f"{family.architecture} is implemented; use {family.releases}",
    )
  return family


def _check_unsupported(fields: Fields, family: Family) -> None:
  """Refuses what changes the computation and the decoder, or this family, does not do."""
  for name, (implemented, reason) in family.only.items():
    value = fields.values.get(name)
    if value is not None and value != implemented:
      raise fields.error(name, f"is {shown(value)} but {reason}")
  layer_types = fields.get("layer_types", list, "a list of strings", [])
  others = [layer for layer in layer_types if layer != "full_attention"]
  if others:
    raise fields.error(
      "layer_types",
      f"contains {shown(others[0])} but only full attention is implemented; use {family.releases}",
    )
  activation = fields.get("hidden_act", str, "a string", "silu")
  if activation != "silu":
    raise fields.error(
      "hidden_act", f"is {shown(activation)} but only 'silu' is implemented; use {family.releases}"
    )
  if fields.values.get("quantization_config") is not None:
    raise fields.error(
      "quantization_config",
      "is set but quantised weights are not implemented; use the bfloat16 release of the model",
    )


def write_config(config: DecoderConfig, dtype) -> dict[str, Any]:
  """config.json of `config` as a dict that transformers 4 and 5 and `read_config` all read.

  Args:
    config: the architecture.
    dtype: data type of the stored weights, e.g. `jnp.float32`.
  """
  family = FAMILIES[config.model_type]
  return {
    "architectures": [family.architecture],
    "model_type": family.model_type,
    "vocab_size": config.vocab_size,
    "hidden_size": config.hidden_size,
    "intermediate_size": config.intermediate_size,
    "num_hidden_layers": config.num_hidden_layers,
    "num_attention_heads": config.num_attention_heads,
    "num_key_value_heads": config.num_key_value_heads,
    "head_dim": config.head_dim,
    "max_position_embeddings": config.max_position_embeddings,
    "rms_norm_eps": config.rms_norm_eps,
    "tie_word_embeddings": config.tie_word_embeddings,
    **{name: value for name, (value, _) in family.only.items()},
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    **write_rope(config),
    "torch_dtype": np.dtype(dtype).name,
  }
