"""Hyperparameters of test-time training."""

import dataclasses
from typing import Literal

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from tttjax.checks import is_concrete
from tttjax.errors import UserError

Schedule = Literal["constant", "linear", "cosine"]
SpanKV = Literal["frozen", "recomputed"]


@dataclasses.dataclass(frozen=True)
class TTTConfig:
  """qTTT's hyperparameters; the defaults are the paper's (its section 4 and appendix).

  Static (a change compiles again): span, schedule, span_kv. All others are traced.

  Attributes:
    steps: N, gradient steps. 0 is plain inference.
    span: k, target tokens per step.
    learning_rate: AdamW's; 1e-6 .. 1e-5 suits real Qwen3, 1e-3 the embedded model.
    weight_decay: decoupled decay of W_Q + Delta towards zero, as AdamW on W_Q would do.
    clip: largest global gradient norm.
    b1, b2, eps: AdamW's.
    schedule: learning rate over the N steps: constant, or to zero by a line or a half cosine.
    warmup_steps: steps of linear warm-up.
    span_kv: the span's own K and V come from the frozen cache (paper) or are computed again.
  """

  steps: int = 32
  span: int = 128
  learning_rate: float = 1e-5
  weight_decay: float = 0.01
  clip: float = 1.0
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  schedule: Schedule = "constant"
  warmup_steps: int = 0
  span_kv: SpanKV = "frozen"

  def __post_init__(self):
    for name, choices in (
      ("schedule", ("constant", "linear", "cosine")),
      ("span_kv", ("frozen", "recomputed")),
    ):
      if getattr(self, name) not in choices:
        raise UserError(
          f"TTTConfig.{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}"
        )
    for name in ("steps", "span"):
      if not isinstance(getattr(self, name), (int, np.integer)):
        raise UserError(f"TTTConfig.{name} must be an integer, not {getattr(self, name)!r}")
    lower = {"steps": 0, "span": 1, "learning_rate": 0, "weight_decay": 0, "warmup_steps": 0}
    for name, least in lower.items():
      value = getattr(self, name)
      if is_concrete(value) and not value >= least:
        raise UserError(f"TTTConfig.{name} must be at least {least}, not {value}")
    for name in ("learning_rate", "weight_decay"):
      if is_concrete(getattr(self, name)) and not np.isfinite(np.float32(getattr(self, name))):
        raise UserError(f"TTTConfig.{name} is {getattr(self, name)}; give a finite number")
    if is_concrete(self.clip) and not self.clip > 0:
      raise UserError(f"TTTConfig.clip must be above 0, not {self.clip}; inf means no clipping")

  def static(self) -> "Static":
    """The part that a compiled program depends on."""
    return Static(self.span, self.schedule, self.span_kv)

  def hyper(self) -> "Hyper":
    """The part that is traced."""
    f32 = lambda x: jnp.asarray(x, jnp.float32)
    return Hyper(
      learning_rate=f32(self.learning_rate),
      weight_decay=f32(self.weight_decay),
      clip=f32(self.clip),
      b1=f32(self.b1),
      b2=f32(self.b2),
      eps=f32(self.eps),
      steps=jnp.asarray(self.steps, jnp.int32),
      warmup_steps=jnp.asarray(self.warmup_steps, jnp.int32),
    )


@dataclasses.dataclass(frozen=True)
class Static:
  """What of a TTTConfig is compiled in."""

  span: int
  schedule: Schedule
  span_kv: SpanKV


@struct.dataclass
class Hyper:
  """What of a TTTConfig is traced: float32 and int32 scalars."""

  learning_rate: jax.Array
  weight_decay: jax.Array
  clip: jax.Array
  b1: jax.Array
  b2: jax.Array
  eps: jax.Array
  steps: jax.Array
  warmup_steps: jax.Array
