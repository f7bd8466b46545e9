"""qTTT: N query-only steps on the context, then the answer (paper, Algorithm 1)."""

import dataclasses
from typing import ClassVar

import jax

from tttjax.session import Session
from tttjax.strategies.adapting import Adapting
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.case import Case
from tttjax.strategies.strategy import Result, Role


@dataclasses.dataclass(frozen=True)
class QTTT(Adapting):
  """Adapts on the context, then answers its questions."""

  name: ClassVar[str] = "qttt"
  label: ClassVar[str] = "qTTT"
  role: ClassVar[Role] = Role.METHOD
  description: ClassVar[str] = (
    "Query-only test-time training: the context is read once and its keys and values are "
    "kept. A few gradient steps of next-token prediction on random spans of it change "
    "the query projections and nothing else; the questions are then answered with them."
  )
  compared_with: ClassVar[tuple[str, ...]] = ("qttt_other_context", "thinking")

  def allowance(self, budget: Budget) -> Allowance:
    ttt = self.matched(budget)
    adapting = budget.lengths.adapt_flops(ttt, ttt.steps)
    spent = adapting + budget.lengths.answer_flops(delta=True)
    return Allowance(spent, ttt, shared_flops=adapting)

  def __call__(self, session: Session, case: Case, allowance: Allowance, key: jax.Array) -> Result:
    span_key, decode_key = jax.random.split(key)
    context, reading = self.read(session, case)
    fast, adaptation, adapting = self.adapt(session, case, context, allowance, span_key)
    predictions, answering = self.answer(
      session, case, context, fast, allowance, decode_key, self.before
    )
    measured = None
    if not self.before:  # measuring encodes the question with the fast weights
      written = predictions if allowance.thinking_tokens is not None else None
      measured = self.measure(session, case, context, fast, written, adaptation, allowance.ttt.span)
    return Result(predictions, reading + adapting + answering, measured, adaptation)
