"""What the steps of test-time training did, and the loop that writes it down."""

from collections.abc import Callable
from typing import Any

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp

from tttjax.checks import is_concrete
from tttjax.errors import UserError

# Buffers have room for at least this many steps, then powers of two: the number of steps is traced,
# and only a larger buffer compiles again.
_LEAST_ROOM = 64
# A history of so many takes 285 MB.
_MOST_STEPS = 1 << 24


@struct.dataclass
class StepMetrics:
  """What one step did; of `adapt`, each with a leading axis of steps.

  Attributes:
    loss: float32, mean cross-entropy (nats per token) of the span before the update.
    grad_norm: float32, global norm of the gradient before clipping.
    update_norm: float32, global norm of the change of the weights; 0 where ok is False.
    ok: bool, False where the span was invalid or anything was not finite: nothing changed then.
    start: int32, first input token of the span.
  """

  loss: jax.Array
  grad_norm: jax.Array
  update_norm: jax.Array
  ok: jax.Array
  start: jax.Array


def check_known(steps) -> None:
  """Raises UserError where the number of steps is traced."""
  if not is_concrete(steps):
    raise UserError(
      "steps is traced, but the history's size depends on it: make the TTTConfig inside the"
      " function that is jitted, or give starts"
    )


def room_for(steps: int) -> int:
  """Size of the history's buffers, static, for `steps` steps.

  Raises:
    UserError: too many for one call, or traced.
  """
  check_known(steps)
  if steps > _MOST_STEPS:
    raise UserError(
      f"{steps} steps are more than the {_MOST_STEPS} of one call: take fewer, or continue with"
      " first_step and last_step"
    )
  return max(_LEAST_ROOM, 1 << max(int(steps) - 1, 0).bit_length())


def run_steps(
  one_step: Callable[..., tuple[Any, Any, StepMetrics]], weights, opt_state, steps, room: int
) -> tuple[Any, Any, StepMetrics]:
  """(weights, opt_state, metrics) = one_step(i, weights, opt_state) for i = 0 .. steps-1.

  Args:
    steps: int32 scalar, traced, at most `room`.
    room: static, from `room_for`.

  Returns:
    The last weights and optimizer state, and StepMetrics of arrays [room], 0 beyond `steps`.
  """

  def body(i, carry):
    weights, opt_state, history = carry
    weights, opt_state, metrics = one_step(i, weights, opt_state)
    return weights, opt_state, jax.tree.map(lambda all_, x: all_.at[i].set(x), history, metrics)

  zeros = lambda dtype: jnp.zeros((room,), dtype)
  f32 = jnp.float32
  history = StepMetrics(zeros(f32), zeros(f32), zeros(f32), zeros(bool), zeros(jnp.int32))
  return lax.fori_loop(jnp.zeros((), jnp.int32), steps, body, (weights, opt_state, history))
