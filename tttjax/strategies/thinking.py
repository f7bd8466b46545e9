"""Thinking: at most M thinking tokens, then the answer."""

import dataclasses
from typing import ClassVar

import jax

from tttjax import flops
from tttjax.errors import UserError
from tttjax.session import Session
from tttjax.spec import option
from tttjax.strategies.answering import WithPositions
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.case import Case
from tttjax.strategies.strategy import Result, Role


@dataclasses.dataclass(frozen=True)
class Thinking(WithPositions):
  """The thinking section is closed by force where it has not ended after the budget.

  Attributes:
    tokens: M, inserted ones included; None takes the run's budget.
  """

  name: ClassVar[str] = "thinking"
  label: ClassVar[str] = "thinking"
  role: ClassVar[Role] = Role.BASELINE
  description: ClassVar[str] = (
    "The model writes thinking tokens first, as many as the budget allows, then answers."
  )

  tokens: int | None = option(None, "{} tokens")

  def __post_init__(self):
    super().__post_init__()
    if self.tokens is not None and self.tokens < 1:
      raise UserError(f"tokens={self.tokens} must be at least 1")

  def allowance(self, budget: Budget) -> Allowance:
    tokens, lengths = self.tokens or budget.thinking_tokens, budget.lengths
    spent = flops.thinking(*lengths.shape, tokens, lengths.answer)
    return Allowance(spent, budget.still(), tokens)

  def __call__(self, session: Session, case: Case, allowance: Allowance, key: jax.Array) -> Result:
    _, decode_key = jax.random.split(key)
    context, reading = self.read(session, case)
    predictions, answering = self.answer(session, case, context, None, allowance, decode_key)
    measured = self.measure(session, case, context, None, predictions)
    return Result(predictions, reading + answering, measured)
