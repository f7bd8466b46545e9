"""Hyperparameters of test-time training."""

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from tttjax.checks import check_kind, check_number, shown
from tttjax.errors import UserError

Schedule = Literal["constant", "linear", "cosine"]
SpanKV = Literal["frozen", "recomputed"]
_LARGEST_INT = 2**31 - 1


def _static(default: Any) -> Any:
  """A field that a compiled program depends on."""
  return dataclasses.field(default=default, metadata={"static": True})


@dataclasses.dataclass(frozen=True)
class TTTConfig:
  """qTTT's hyperparameters; the defaults are the paper's (its section 4 and appendix).

  Static (a change compiles again): span, schedule, span_kv. All others are traced: to jax a
  TTTConfig is a pytree whose leaves are those, so that it may be an argument of a jitted function
  (`traced` gives them the dtypes that make equal programs). Arrays of no axes become Python's
  numbers.

  Attributes:
    steps: N, gradient steps. 0 is plain inference.
    span: k, target tokens per step.
    learning_rate: AdamW's; 1e-6 .. 1e-5 suits real Qwen3, 1e-3 the embedded model.
    weight_decay: decoupled decay of W_Q + Delta towards zero, as AdamW on W_Q would do.
    clip: largest global gradient norm; inf, or a float beyond float32, means no clipping.
    b1, b2, eps: AdamW's.
    schedule: learning rate over the N steps: constant, or to zero by a line or a half cosine.
    warmup_steps: steps of linear warm-up.
    span_kv: the span's own K and V come from the frozen cache (paper) or are computed again.

  Raises:
    UserError: a value that is not of its field's type or range.
  """

  steps: int = 32
  span: int = _static(128)
  learning_rate: float = 1e-5
  weight_decay: float = 0.01
  clip: float = 1.0
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  schedule: Schedule = _static("constant")
  warmup_steps: int = 0
  span_kv: SpanKV = _static("frozen")

  def __post_init__(self):
    for name, kind in (("schedule", Schedule), ("span_kv", SpanKV)):
      value = getattr(self, name)
      if not isinstance(value, str) or value not in get_args(kind):
        raise UserError(
          f"TTTConfig.{name} is {shown(value)}; choose one of {', '.join(get_args(kind))}"
        )

    def check(name, *limits, **kind):
      value = check_number(f"TTTConfig.{name}", getattr(self, name), *limits, **kind)
      object.__setattr__(self, name, value)

    check("steps", 0, _LARGEST_INT, whole=True)
    check("span", 1, _LARGEST_INT, whole=True, static=True)
    check("warmup_steps", 0, _LARGEST_INT, whole=True)
    check("learning_rate", 0)
    check("weight_decay", 0)
    check("clip", 0, above=True, infinite=True)
    check("b1", 0, 1, below=True)
    check("b2", 0, 1, below=True)
    check("eps", 0, above=True)

  def traced(self) -> "TTTConfig":
    """The same hyperparameters with int32 and float32 scalars for all that is not static."""
    dtypes = {int: jnp.int32, float: jnp.float32}
    with np.errstate(over="ignore"):  # a clip beyond float32 is infinite
      leaves = [jnp.asarray(getattr(self, f.name), dtypes[f.type]) for f in _TRACED]
    return _unflatten(_flatten(self)[1], leaves)


def check_config(cfg) -> None:
  """Raises UserError unless `cfg` is a TTTConfig."""
  check_kind("cfg", cfg, TTTConfig, "give a TTTConfig")


_STATIC = [f for f in dataclasses.fields(TTTConfig) if f.metadata.get("static")]
_TRACED = [f for f in dataclasses.fields(TTTConfig) if not f.metadata.get("static")]


def _flatten(cfg: TTTConfig):
  values = lambda fields: tuple(getattr(cfg, f.name) for f in fields)
  return values(_TRACED), values(_STATIC)


def _unflatten(static: tuple, traced) -> TTTConfig:
  # Not by the constructor: jax also builds trees of things that are no numbers.
  cfg = object.__new__(TTTConfig)
  for field, value in (*zip(_STATIC, static), *zip(_TRACED, traced)):
    object.__setattr__(cfg, field.name, value)
  return cfg


jax.tree_util.register_pytree_node(TTTConfig, _flatten, _unflatten)
