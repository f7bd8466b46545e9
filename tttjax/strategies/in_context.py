"""In-context: read the context, answer."""

import jax

from tttjax.strategies.base import Budget, Case, Result
from tttjax.strategies.engine import Engine


def in_context(engine: Engine, case: Case, budget: Budget, key: jax.Array) -> Result:
  """Nothing is spent besides reading and answering."""
  _, decode_key = jax.random.split(key)
  cache, reading = engine.prefill(case)
  predictions, answering = engine.generate(case, cache, None, budget.answer, decode_key)
  mass = engine.evidence_mass(case, cache, None) if budget.mechanism else None
  return Result(predictions, reading + answering, mass)
