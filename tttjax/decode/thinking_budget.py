"""Where a row is in its output: thinking, having its thinking closed, answering, at its end."""

from flax import struct
import jax
import jax.numpy as jnp

from tttjax.decode.sampling_config import Sampling


@struct.dataclass
class Progress:
  """Of each row (or beam), any shape.

  Attributes:
    closed: bool, no (longer a) thinking section.
    matched: int32, characters of a textual end marker that the newest tokens spell.
    thought: int32, thinking tokens so far, inserted ones included.
    answered: int32, answer tokens so far.
  """

  closed: jax.Array
  matched: jax.Array
  thought: jax.Array
  answered: jax.Array


def start(shape: tuple[int, ...], sampling: Sampling) -> Progress:
  """Nothing emitted yet: thinking where there is a thinking budget, else answering."""
  zeros = jnp.zeros(shape, jnp.int32)
  return Progress(jnp.broadcast_to(~sampling.thinking, shape), zeros, zeros, zeros)


def insertion(progress: Progress, sampling: Sampling) -> tuple[jax.Array, jax.Array]:
  """Whether the budget is used up so that the next token is given, and which one: bool, int32."""
  over = progress.thought - sampling.thinking_budget  # index of the inserted token, where >= 0
  token = sampling.forced_ids[jnp.clip(over, 0, sampling.forced_ids.shape[0] - 1)]
  return ~progress.closed & (over >= 0), token


def ends(progress: Progress, token: jax.Array, sampling: Sampling) -> jax.Array:
  """Whether `token`, int32, is a row's last: a stop id not inserted, or the answer's last token.

  Both [R, ...]: the rows are the sampling's.
  """
  forced, _ = insertion(progress, sampling)
  stop = ~forced & (token[..., None] == sampling.stop_ids).any(axis=-1)
  limits = jnp.expand_dims(sampling.max_answer_tokens, range(1, progress.closed.ndim))
  return stop | (progress.answered + progress.closed >= limits)


def advance(progress: Progress, token: jax.Array, sampling: Sampling) -> Progress:
  """The progress after each row has emitted `token`, int32."""
  forced, _ = insertion(progress, sampling)
  last_inserted = progress.thought - sampling.thinking_budget == sampling.forced_length - 1
  matched, ended = sampling.end_think.advance(progress.matched, token)
  return Progress(
    closed=progress.closed | jnp.where(forced, last_inserted, ended),
    matched=matched,
    thought=progress.thought + ~progress.closed,
    answered=progress.answered + progress.closed,
  )
