"""In-context: read the context, answer."""

import dataclasses
from typing import ClassVar

import jax

from tttjax.session import Session
from tttjax.strategies.answering import WithPositions
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.case import Case
from tttjax.strategies.strategy import Result, Role


@dataclasses.dataclass(frozen=True)
class InContext(WithPositions):
  """Nothing is spent besides reading and answering."""

  name: ClassVar[str] = "in_context"
  label: ClassVar[str] = "in-context"
  role: ClassVar[Role] = Role.REFERENCE
  description: ClassVar[str] = (
    "The model reads the context and answers at once. This is what all others are compared with."
  )

  def allowance(self, budget: Budget) -> Allowance:
    return Allowance(budget.lengths.answer_flops(delta=False), budget.still())

  def __call__(self, session: Session, case: Case, allowance: Allowance, key: jax.Array) -> Result:
    _, decode_key = jax.random.split(key)
    context, reading = self.read(session, case)
    predictions, answering = self.answer(session, case, context, None, allowance, decode_key)
    measured = self.measure(session, case, context, None)
    return Result(predictions, reading + answering, measured)
