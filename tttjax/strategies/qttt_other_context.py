"""The control of qTTT: queries adapted on a different context of the same length.

What it gains over in-context is generic adaptation to long contexts; only what
qTTT gains over it is specific to the context at hand.
"""

import jax

from tttjax.strategies.base import Budget, Case, Result
from tttjax.strategies.engine import Engine


def qttt_other_context(engine: Engine, case: Case, budget: Budget, key: jax.Array) -> Result:
  """As qttt, with `case.other` in Algorithm 1; reading that one is charged too."""
  span_key, decode_key = jax.random.split(key)
  other_cache, reading_other = engine.prefill(case.other)
  fast, adapting = engine.adapt(case.other, other_cache, budget.ttt, span_key)
  del other_cache
  cache, reading = engine.prefill(case)
  predictions, answering = engine.generate(case, cache, fast, budget.answer, decode_key)
  mass = engine.evidence_mass(case, cache, fast) if budget.mechanism else None
  return Result(predictions, reading_other + adapting + reading + answering, mass)
