"""config.json <-> `DecoderConfig`: what is read, what is refused and why.

Transformers 4 keeps the rotary settings in `rope_theta` and `rope_scaling`, transformers 5 in
`rope_parameters`. Both are read, both are written. Nothing is guessed: a field that decides the
architecture and is absent is an error, except where the model's family has a fixed default that
published checkpoints rely on. What families differ in is said in tttjax/models, a file for each.
"""

import json
import math
from typing import Any

import numpy as np

from tttjax.checkpoint.fields import NUMBER, Fields, read_json
from tttjax.checkpoint.paths import checkpoint_directory
from tttjax.models.decoder_config import DecoderConfig, YarnConfig
from tttjax.models.families import FAMILIES, NOT_IMPLEMENTED
from tttjax.models.family import Family

_YARN_FIELDS = frozenset(
  [
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "beta_fast",
    "beta_slow",
    "attention_factor",
    "mscale",
    "mscale_all_dim",
    "truncate",
  ]
)


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
  fields = Fields(path, read_json(path))
  family = _read_family(fields)
  _check_unsupported(fields, family)

  heads = fields.size("num_attention_heads")
  kv_heads = fields.size("num_key_value_heads")
  if heads % kv_heads:
    raise fields.error(
      "num_key_value_heads",
      f"is {kv_heads}, which does not divide num_attention_heads = {heads}; correct it",
    )
  head_dim = fields.size("head_dim", family.defaults.get("head_dim"))
  if head_dim % 2:
    raise fields.error(
      "head_dim", f"is {head_dim} but rotary embeddings need an even number; correct it"
    )
  max_positions = fields.size("max_position_embeddings")
  theta, yarn = _read_rope(fields, max_positions, family)
  return DecoderConfig(
    vocab_size=fields.size("vocab_size"),
    hidden_size=fields.size("hidden_size"),
    intermediate_size=fields.size("intermediate_size"),
    num_hidden_layers=fields.size("num_hidden_layers"),
    num_attention_heads=heads,
    num_key_value_heads=kv_heads,
    head_dim=head_dim,
    rope_theta=theta,
    max_position_embeddings=max_positions,
    rms_norm_eps=fields.positive("rms_norm_eps", family.defaults["rms_norm_eps"]),
    tie_word_embeddings=fields.flag("tie_word_embeddings", family.defaults["tie_word_embeddings"]),
    yarn=yarn,
    model_type=family.model_type,
  )


def _read_family(fields: Fields) -> Family:
  fields.required("model_type")
  model_type = fields.get("model_type", str, "a string", None)
  if model_type not in FAMILIES:
    implemented = ", ".join(map(repr, FAMILIES))
    reason = NOT_IMPLEMENTED.get(model_type, f"only {implemented} is implemented")
    releases = " or ".join(family.releases for family in FAMILIES.values())
    raise fields.error(
      "model_type", f"is {model_type!r}, which is not supported: {reason}; use {releases}"
    )
  family = FAMILIES[model_type]
  architectures = fields.get("architectures", list, "a list of strings", [])
  if architectures and family.architecture not in architectures:
    raise fields.error(
      "architectures",
      f"is {architectures}, which is not supported: only "
      f"{family.architecture} is implemented; use {family.releases}",
    )
  return family


def _check_unsupported(fields: Fields, family: Family) -> None:
  """Refuses what changes the computation and the decoder, or this family, does not do."""
  for name, (implemented, reason) in family.only.items():
    value = fields.values.get(name)
    if value is not None and value != implemented:
      raise fields.error(name, f"is {json.dumps(value)} but {reason}")
  layer_types = fields.get("layer_types", list, "a list of strings", [])
  others = sorted({str(layer) for layer in layer_types} - {"full_attention"})
  if others:
    raise fields.error(
      "layer_types",
      f"contains {others} but only full attention is implemented; use {family.releases}",
    )
  activation = fields.get("hidden_act", str, "a string", "silu")
  if activation != "silu":
    raise fields.error(
      "hidden_act", f"is {activation!r} but only 'silu' is implemented; use {family.releases}"
    )
  if fields.values.get("quantization_config") is not None:
    raise fields.error(
      "quantization_config",
      "is set but quantised weights are not implemented; use the bfloat16 release of the model",
    )


def _read_rope(
  fields: Fields, max_positions: int, family: Family
) -> tuple[float, YarnConfig | None]:
  """RoPE base and YaRN settings, from wherever the writing version of transformers put them."""
  new, old = fields.table("rope_parameters"), fields.table("rope_scaling")
  # Transformers 5 prefers rope_scaling where a file has both.
  rope = old if old.values else new
  bases = {
    value for table in (fields, new, old) if (value := table.positive("rope_theta")) is not None
  }
  if not bases:
    raise fields.error(
      "rope_theta",
      "is missing, at the top level and in rope_parameters, and is "
      "never assumed; add the value that the model was trained with",
    )
  if len(bases) > 1:
    raise fields.error(
      "rope_theta",
      f"has contradicting values {sorted(bases)}; keep the one that the model was trained with",
    )
  for table in (fields, new, old):
    if table.positive("partial_rotary_factor", 1.0) != 1.0:
      raise table.error(
        "partial_rotary_factor", f"is not 1, which is not implemented; use {family.releases}"
      )
  key = "rope_type" if "rope_type" in rope.values else "type"
  rope_type = rope.get(key, str, "a string", "default")
  if rope_type == "default":
    return bases.pop(), None
  if rope_type != "yarn":
    raise rope.error(
      key, f"is {rope_type!r} but only 'default' and 'yarn' are implemented; set one of these"
    )
  return bases.pop(), _read_yarn(rope, max_positions)


def _read_yarn(rope: Fields, max_positions: int) -> YarnConfig:
  """YaRN with transformers' defaults: null equals absent, for beta_fast and beta_slow 0 too."""
  unknown = sorted(set(rope.values) - _YARN_FIELDS)
  if unknown:
    raise rope.error(unknown[0], "is not a YaRN setting; remove it")
  original = rope.size("original_max_position_embeddings", max_positions)
  if "factor" not in rope.values:
    raise rope.error("factor", "is missing; add the context extension factor, e.g. 4.0")
  factor = rope.positive("factor", max_positions / original)
  if factor < 1:
    raise rope.error(
      "factor", f"is {factor} but YaRN extends the context by a factor of at least 1; correct it"
    )
  attention_factor = rope.positive("attention_factor")
  mscale = rope.get("mscale", NUMBER, "a number", 0)
  mscale_all_dim = rope.get("mscale_all_dim", NUMBER, "a number", 0)
  if attention_factor is None and mscale and mscale_all_dim:
    log = 0.1 * math.log(factor)
    attention_factor = (mscale * log + 1.0) / (mscale_all_dim * log + 1.0)
  beta_fast = float(rope.get("beta_fast", NUMBER, "a number", 0) or 32)
  beta_slow = float(rope.get("beta_slow", NUMBER, "a number", 0) or 1)
  if not 0 < beta_slow <= beta_fast:
    raise rope.error(
      "beta_fast",
      f"is {beta_fast} and beta_slow is {beta_slow}, but "
      "0 < beta_slow <= beta_fast must hold; correct them",
    )
  return YarnConfig(
    factor=factor,
    original_max_position_embeddings=original,
    beta_fast=beta_fast,
    beta_slow=beta_slow,
    attention_factor=attention_factor,
    truncate=rope.flag("truncate", True),
  )


def write_config(config: DecoderConfig, dtype) -> dict[str, Any]:
  """config.json of `config` as a dict that transformers 4 and 5 and `read_config` all read.

  Args:
    config: the architecture.
    dtype: data type of the stored weights, e.g. `jnp.float32`.
  """
  rope: dict[str, Any] = {"rope_type": "default"}
  if config.yarn is not None:
    yarn = config.yarn
    rope = {
      "rope_type": "yarn",
      "factor": yarn.factor,
      "original_max_position_embeddings": yarn.original_max_position_embeddings,
      "beta_fast": yarn.beta_fast,
      "beta_slow": yarn.beta_slow,
      "truncate": yarn.truncate,
    }
    if yarn.attention_factor is not None:
      rope["attention_factor"] = yarn.attention_factor
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
    "rope_theta": config.rope_theta,  # Transformers 4 reads these two,
    "rope_scaling": None if config.yarn is None else rope,
    "rope_parameters": {"rope_theta": config.rope_theta, **rope},  # transformers 5 this one.
    "torch_dtype": np.dtype(dtype).name,
  }
