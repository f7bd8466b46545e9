"""The control of qTTT: queries adapted on a different context of the same length.

What it gains over in-context is generic adaptation to long contexts; only what
qTTT gains over it is specific to the context at hand. Two haystacks of one source
tree (code_bugs) overlap more and more as they grow, and the control loses its force.
"""

import dataclasses
from typing import ClassVar

import jax

from tttjax.session import Session
from tttjax.strategies.adapting import Adapting
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.case import Case
from tttjax.strategies.strategy import Result, Role


@dataclasses.dataclass(frozen=True)
class QTTTOtherContext(Adapting):
  """As qttt, with `case.other` in Algorithm 1; reading that one is charged too."""

  name: ClassVar[str] = "qttt_other_context"
  label: ClassVar[str] = "qTTT on another context (control)"
  role: ClassVar[Role] = Role.CONTROL
  trains_elsewhere: ClassVar[bool] = True
  description: ClassVar[str] = (
    "The same training as qTTT, but on a different context of the same length. What this "
    "gains is general adaptation to such texts; only what qTTT gains beyond it is owed to "
    "the context at hand."
  )

  def allowance(self, budget: Budget) -> Allowance:
    ttt = self.matched(budget)
    # The steps of qTTT, at what they cost on the other context.
    lengths = dataclasses.replace(budget.lengths, context=budget.lengths.other)
    adapting = lengths.adapt_flops(ttt, ttt.steps)
    spent = adapting + budget.lengths.answer_flops(delta=True)
    return Allowance(spent, ttt, shared_flops=adapting, prefills=2)

  def __call__(self, session: Session, case: Case, allowance: Allowance, key: jax.Array) -> Result:
    span_key, decode_key = jax.random.split(key)
    other, reading_other = self.read(session, case.other)
    fast, adaptation, adapting = self.adapt(session, case.other, other, allowance, span_key)
    del other
    context, reading = self.read(session, case)
    predictions, answering = self.answer(
      session, case, context, fast, allowance, decode_key, self.before
    )
    measured = None
    if not self.before and adaptation is not None:
      # Its spans lie in the other context: all of this one is held out.
      unseen = dataclasses.replace(adaptation, start=())
      measured = self.measure(session, case, context, fast, None, unseen, allowance.ttt.span)
    cost = reading_other + adapting + reading + answering
    return Result(predictions, cost, measured, adaptation)
