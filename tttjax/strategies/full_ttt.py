"""Full-parameter test-time training: every weight is trained on the whole context.

The baseline that the paper calls infeasible (section 3): one step over T tokens costs about as much
as decoding 1.2 T tokens, and each changes the keys and values, so the cache is made again.
"""

import dataclasses
from typing import ClassVar

import jax

from tttjax import flops
from tttjax.checks import check_number
from tttjax.errors import UserError
from tttjax.session import Session
from tttjax.spec import option
from tttjax.strategies.answering import Answering
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.case import Case
from tttjax.strategies.strategy import Result, Role


@dataclasses.dataclass(frozen=True)
class FullTTT(Answering):
  """A given number of steps: they are not matched, since one alone may exceed the budget.

  Attributes:
    steps: over all tokens of the context.
    learning_rate: AdamW's; None the run's.
  """

  name: ClassVar[str] = "full_ttt"
  label: ClassVar[str] = "full-parameter TTT"
  role: ClassVar[Role] = Role.BASELINE
  description: ClassVar[str] = (
    "Training steps that change all weights, after which the context has to be read again "
    "each time: the expensive form of test-time training."
  )

  steps: int = option(1, {"1": "1 step", "": "{} steps"})
  learning_rate: float | None = None

  def __post_init__(self):
    if self.steps < 1:
      raise UserError(f"steps={self.steps} must be at least 1")
    if self.learning_rate is not None:
      check_number("learning_rate", self.learning_rate, 0)

  def allowance(self, budget: Budget) -> Allowance:
    lengths = budget.lengths
    rate = budget.ttt.learning_rate if self.learning_rate is None else self.learning_rate
    # A step's targets are all tokens of the context but the first.
    ttt = dataclasses.replace(
      budget.ttt, steps=self.steps, learning_rate=rate, span=lengths.context - 1
    )
    training = self.steps * flops.full_ttt_step(lengths.architecture, lengths.context)
    spent = training + lengths.answer_flops(delta=False)
    return Allowance(spent, ttt, shared_flops=training)

  def __call__(self, session: Session, case: Case, allowance: Allowance, key: jax.Array) -> Result:
    _, decode_key = jax.random.split(key)
    trained, adaptation, adapting = session.train_all(case.tokens, allowance.ttt, case.capacity)
    context, reading = self.read(trained, case)
    predictions, answering = self.answer(trained, case, context, None, allowance, decode_key)
    measured = self.measure(trained, case, context, None)
    return Result(predictions, adapting + reading + answering, measured, adaptation)
