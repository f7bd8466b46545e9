"""An adaptation in pieces, so that one that is interrupted goes on where it was."""

from typing import Any, Protocol

import jax
import numpy as np

from tttjax.attention.caches import PrefixCache
from tttjax.models.decoder import Decoder, Params
from tttjax.sharding import to_host
from tttjax.ttt.adamw import init_optimizer
from tttjax.ttt.adaptation import adapt
from tttjax.ttt.history import StepMetrics
from tttjax.ttt.hyperparameters import TTTConfig
from tttjax.ttt.weights import init_fast

# Steps between two looks whether the program is to end. On two cores a look cost 3 to 13 ms: with 8
# steps between 2 to 7 % of the embedded model's time, nothing to be seen of a real one's.
_EVERY = 16


class Unfinished(Protocol):
  """Where the state of an interrupted adaptation is kept."""

  def asked(self) -> bool:
    """Whether the program is to end now."""

  def restore(self, like: tuple[Any, Any]) -> tuple[Any, Any, StepMetrics] | None:
    """Fast weights, optimizer state and history of the steps that were taken, if there are any."""

  def save(self, fast: Params, opt_state: Any, history: StepMetrics) -> None:
    """Keeps them, and ends the program."""

  def finished(self, fast: Params, history: StepMetrics) -> None:
    """All steps are taken: to be kept if the program is to end before the answers are there."""


def adapt_in_pieces(
  model: Decoder,
  params: Params,
  cache: PrefixCache,
  tokens: np.ndarray,
  key: jax.Array,
  ttt: TTTConfig,
  starts: np.ndarray | None,
  unfinished: Unfinished,
) -> tuple[Params, StepMetrics]:
  """As `adapt`, bit for bit: (fast weights, history on the host)."""
  fast = init_fast(model, params)
  opt_state = init_optimizer(fast)
  number = ttt.steps if starts is None else len(starts)
  pieces, taken = [], 0
  if kept := unfinished.restore((fast, opt_state)):
    fast, opt_state, before = kept
    pieces, taken = [before], len(before.loss)
  while taken < number:
    if taken and unfinished.asked():
      unfinished.save(fast, opt_state, _joined(pieces))
    until = min(taken + _EVERY, number)
    fast, opt_state, piece = adapt(
      model, params, cache, tokens, key, ttt, starts, fast, opt_state, taken, until
    )
    pieces.append(to_host(piece))
    taken = until
  history = _joined(pieces)
  unfinished.finished(fast, history)
  return fast, history


def _joined(pieces: list[StepMetrics]) -> StepMetrics:
  return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)
