"""The rotary settings of config.json: what is read, what is refused and why.

Transformers 4 keeps them in `rope_theta` and `rope_scaling`, transformers 5 in `rope_parameters`.
Both are read, both are written.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from tttjax.checkpoint.fields import MOST, Fields, shown
from tttjax.models.decoder_config import DecoderConfig, Llama3Config, YarnConfig
from tttjax.models.family import Family

_COMMON_FIELDS = frozenset(
  ["rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings"]
)
_YARN_FIELDS = _COMMON_FIELDS | {
  "beta_fast",
  "beta_slow",
  "attention_factor",
  "mscale",
  "mscale_all_dim",
  "truncate",
}
# Wavelengths times any factor are then finite in float32.
_LARGEST_BASE = 1e20
_LLAMA3_FIELDS = _COMMON_FIELDS | {"low_freq_factor", "high_freq_factor"}


def read_rope(
  fields: Fields, max_positions: int, family: Family
) -> tuple[float, YarnConfig | Llama3Config | None]:
  """RoPE base and scaling, from wherever the writing version of transformers put them.

  Args:
    fields: of config.json.
    max_positions: its max_position_embeddings.
    family: names the releases that an error recommends.

  Raises:
    UserError: a field is missing, wrong or contradicts another, or the kind is not implemented.
  """
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
  (base,) = bases
  if not 1 < base <= _LARGEST_BASE:
    raise fields.error(
      "rope_theta", f"is {base} but must be above 1 and at most {_LARGEST_BASE:g}; correct it"
    )
  for table in (fields, new, old):
    if table.positive("partial_rotary_factor", 1.0) != 1.0:
      raise table.error(
        "partial_rotary_factor", f"is not 1, which is not implemented; use {family.releases}"
      )
  key = "rope_type" if "rope_type" in rope.values else "type"
  rope_type = rope.get(key, str, "a string", "default")
  match rope_type:
    case "default":
      return base, None
    case "yarn":
      return base, _read_yarn(rope, max_positions)
    case "llama3":
      return base, _read_llama3(rope)
  raise rope.error(
    key,
    f"is {shown(rope_type)} but only 'default', 'yarn' and 'llama3' are implemented; set one of"
    " these",
  )


def _check_names(rope: Fields, known: frozenset[str], kind: str) -> None:
  unknown = sorted(set(rope.values) - known)
  if unknown:
    raise rope.error(unknown[0], f"is not a setting of {kind}; remove it")


def _check_factor(rope: Fields, factor: float, original: int) -> None:
  if factor < 1:
    raise rope.error("factor", f"is {factor} but extends the context by at least 1; correct it")
  if factor * original > MOST:
    raise rope.error(
      "factor",
      f"is {factor}, which extends {original} positions beyond the {MOST} there are; correct it",
    )


def _read_yarn(rope: Fields, max_positions: int) -> YarnConfig:
  """YaRN with transformers' defaults: null equals absent, for beta_fast and beta_slow 0 too."""
  _check_names(rope, _YARN_FIELDS, "YaRN")
  original = rope.size("original_max_position_embeddings", max_positions)
  if "factor" not in rope.values:
    raise rope.error("factor", "is missing; add the context extension factor, e.g. 4.0")
  factor = rope.positive("factor", max_positions / original)
  _check_factor(rope, factor, original)
  attention_factor = rope.positive("attention_factor")
  mscale, mscale_all_dim = (rope.positive_or(name, None) for name in ("mscale", "mscale_all_dim"))
  if attention_factor is None and mscale and mscale_all_dim:
    log = 0.1 * math.log(factor)
    attention_factor = (mscale * log + 1.0) / (mscale_all_dim * log + 1.0)
  beta_fast, beta_slow = rope.positive_or("beta_fast", 32.0), rope.positive_or("beta_slow", 1.0)
  if beta_slow > beta_fast:
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


def _read_llama3(rope: Fields) -> Llama3Config:
  _check_names(rope, _LLAMA3_FIELDS, "rope_type llama3")
  values = {}
  for name in ("factor", "low_freq_factor", "high_freq_factor"):
    rope.required(name)
    values[name] = rope.positive(name)
  original = rope.size("original_max_position_embeddings")
  _check_factor(rope, values["factor"], original)
  low, high = values["low_freq_factor"], values["high_freq_factor"]
  if not np.float32(low) < np.float32(high):
    raise rope.error(
      "low_freq_factor", f"is {low} but must be below high_freq_factor = {high}; correct them"
    )
  if original / low > _LARGEST_BASE:  # the longest wavelength that is not slow
    raise rope.error("low_freq_factor", f"is {low}, which is too small; correct it")
  return Llama3Config(**values, original_max_position_embeddings=original)


def write_rope(config: DecoderConfig) -> dict[str, Any]:
  """The fields of config.json that transformers 4 and 5 and `read_rope` all read."""
  rope: dict[str, Any] = {"rope_type": "default"}
  match config.rope_scaling:
    case YarnConfig() as yarn:
      rope = {"rope_type": "yarn", **dataclasses.asdict(yarn)}
      if yarn.attention_factor is None:
        del rope["attention_factor"]
    case Llama3Config() as llama3:
      rope = {"rope_type": "llama3", **dataclasses.asdict(llama3)}
  return {
    "rope_theta": config.rope_theta,  # Transformers 4 reads these two,
    "rope_scaling": None if config.rope_scaling is None else rope,
    "rope_parameters": {"rope_theta": config.rope_theta, **rope},  # transformers 5 this one.
  }
