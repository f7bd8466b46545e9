"""Thinking: at most M thinking tokens, then the answer."""

import jax

from tttjax.strategies.base import Budget, Case, Result
from tttjax.strategies.engine import Engine


def thinking(engine: Engine, case: Case, budget: Budget, key: jax.Array) -> Result:
  """The thinking section is closed by force where it has not ended after the budget."""
  _, decode_key = jax.random.split(key)
  cache, reading = engine.prefill(case)
  predictions, answering = engine.generate(case, cache, None, budget.thinking, decode_key)
  return Result(predictions, reading + answering)
