"""qTTT: N query-only steps on the context, then the answer (paper, Algorithm 1)."""

import jax

from tttjax.strategies.base import Budget, Case, Result
from tttjax.strategies.engine import Engine


def qttt(engine: Engine, case: Case, budget: Budget, key: jax.Array) -> Result:
  """The questions are encoded after the adaptation, with the adapted queries."""
  span_key, decode_key = jax.random.split(key)
  cache, reading = engine.prefill(case)
  fast, adapting = engine.adapt(case, cache, budget.ttt, span_key)
  predictions, answering = engine.generate(case, cache, fast, budget.answer, decode_key)
  mass = engine.evidence_mass(case, cache, fast) if budget.mechanism else None
  return Result(predictions, reading + adapting + answering, mass)
