"""The control without training: every query is scaled with the growth of log T."""

import dataclasses
import math
from typing import ClassVar

import jax

from tttjax.errors import UserError
from tttjax.session import Session
from tttjax.strategies.answering import WithPositions
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.case import Case
from tttjax.strategies.strategy import Result, Role
from tttjax.ttt.weights import scaled_queries


@dataclasses.dataclass(frozen=True)
class LogTemperature(WithPositions):
  """Scales q by log T / log T_train after prefill: leads grow as dilution asks (paper, section 2).

  Contexts longer than T_train are read with sharper attention, shorter ones with blunter.

  Attributes:
    trained: T_train in tokens, the longest context of the model's training; None asks the model.
  """

  name: ClassVar[str] = "log_temperature"
  label: ClassVar[str] = "log-length temperature (control)"
  role: ClassVar[Role] = Role.CONTROL
  description: ClassVar[str] = (
    "No training at all. Queries are scaled by log T / log T_trained for a context of T "
    "tokens: attention gets sharper beyond the length that the model was trained on, as "
    "the length dilutes it, and blunter below."
  )

  trained: int | None = None

  def __post_init__(self):
    super().__post_init__()
    if self.trained is not None and self.trained < 2:
      raise UserError(f"trained={self.trained} must be at least 2 tokens")

  def allowance(self, budget: Budget) -> Allowance:
    return Allowance(budget.lengths.answer_flops(delta=False), budget.still())

  def __call__(self, session: Session, case: Case, allowance: Allowance, key: jax.Array) -> Result:
    _, decode_key = jax.random.split(key)
    context, reading = self.read(session, case)
    scale = math.log(case.num_tokens) / math.log(self.trained or session.trained_length)
    fast = scaled_queries(session.model, scale)
    predictions, answering = self.answer(session, case, context, fast, allowance, decode_key)
    measured = self.measure(session, case, context, fast)
    return Result(predictions, reading + answering, measured)
