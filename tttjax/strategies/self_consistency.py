"""Self-consistency: n thoughts share the context's cache, and their answers vote."""

import collections
import dataclasses
from typing import ClassVar

import jax

from tttjax import flops
from tttjax.checks import check_number
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.session import Output, Session
from tttjax.spec import option
from tttjax.strategies.adapting import Sharing
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.case import Case
from tttjax.strategies.strategy import Prediction, Result, Role


@dataclasses.dataclass(frozen=True)
class SelfConsistency(Sharing):
  """The budget is shared by the n samples (paper, tables 8 and 9).

  Attributes:
    n: samples.
    temperature: of all of them, above 0 where there are several; None takes that of thoughts.
  """

  name: ClassVar[str] = "self_consistency"
  label: ClassVar[str] = "self-consistency"
  role: ClassVar[Role] = Role.BASELINE
  description: ClassVar[str] = (
    "Several independent samples of shorter thoughts; the most frequent answer counts. "
    "They share one reading of the context."
  )

  n: int = option(8, "{} samples")
  temperature: float | None = None

  def __post_init__(self):
    super().__post_init__()
    if self.n < 1:
      raise UserError(f"n={self.n} must be at least 1")
    if self.temperature is not None:
      check_number("temperature", self.temperature, 0)

  def allowance(self, budget: Budget) -> Allowance:
    temperature = budget.temperature if self.temperature is None else self.temperature
    if not temperature > 0 and self.n > 1:
      raise UserError(
        f"self_consistency votes over equal samples at temperature {temperature}; write"
        " self_consistency(temperature=0.6), or raise the temperature of thoughts"
      )
    lengths = budget.lengths
    return self.shared_allowance(
      budget,
      self.n,
      lambda n, delta: self.n * flops.decode(*lengths.shape, n + lengths.answer, delta),
    )

  def sampling(self, case: Case, allowance: Allowance) -> SamplingConfig:
    sampling = super().sampling(case, allowance)
    if self.temperature is None:
      return sampling
    return dataclasses.replace(sampling, temperature=self.temperature)

  def __call__(self, session: Session, case: Case, allowance: Allowance, key: jax.Array) -> Result:
    span_key, decode_key = jax.random.split(key)
    context, reading = self.read(session, case)
    fast, adaptation, adapting = self.adapt(session, case, context, allowance, span_key)
    outputs, answering = self.write(
      session,
      case,
      context,
      fast,
      allowance,
      decode_key,
      samples=self.n,
      question_before=self.before,
    )
    predictions = tuple(Prediction.of(own, voted(case, own)) for own in outputs)
    return Result(predictions, reading + adapting + answering, adaptation=adaptation)


def voted(case: Case, outputs: tuple[Output, ...]) -> int:
  """Which output has the most frequent answer, the earliest of such; those without one abstain."""
  answers = [case.extract(output.answer) for output in outputs]
  votes = collections.Counter(answer for answer in answers if answer is not None)
  return answers.index(votes.most_common(1)[0][0]) if votes else 0
