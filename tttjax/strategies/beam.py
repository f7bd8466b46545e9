"""Beam search over thoughts: n beams share the context's cache and the budget."""

import dataclasses
from typing import ClassVar

import jax

from tttjax import flops
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.session import Session
from tttjax.spec import option
from tttjax.strategies.adapting import Sharing
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.case import Case
from tttjax.strategies.strategy import Prediction, Result, Role


@dataclasses.dataclass(frozen=True)
class Beam(Sharing):
  """The likeliest thought and answer that n beams find (paper, tables 8 and 9).

  Attributes:
    n: beams.
  """

  name: ClassVar[str] = "beam"
  label: ClassVar[str] = "beam search"
  role: ClassVar[Role] = Role.BASELINE
  description: ClassVar[str] = (
    "Beam search over shorter thoughts; the likeliest beam's answer counts."
  )

  n: int = option(8, "{} beams")

  def __post_init__(self):
    super().__post_init__()
    if self.n < 2:
      raise UserError(f"n={self.n} must be at least 2")
    if self.before:
      raise UserError("question=before is not to be had with beams: use self_consistency")

  def allowance(self, budget: Budget) -> Allowance:
    lengths = budget.lengths
    return self.shared_allowance(
      budget,
      self.n,
      lambda n, delta: flops.beam(*lengths.shape, n + lengths.answer, self.n, delta),
    )

  def sampling(self, case: Case, allowance: Allowance) -> SamplingConfig:
    """Of thoughts as of every strategy, but a search does not sample."""
    return dataclasses.replace(super().sampling(case, allowance), temperature=0.0)

  def __call__(self, session: Session, case: Case, allowance: Allowance, key: jax.Array) -> Result:
    span_key, decode_key = jax.random.split(key)
    context, reading = self.read(session, case)
    fast, adaptation, adapting = self.adapt(session, case, context, allowance, span_key)
    outputs, answering = self.write(
      session, case, context, fast, allowance, decode_key, beams=self.n
    )
    predictions = tuple(Prediction.of(own) for own in outputs)
    return Result(predictions, reading + adapting + answering, adaptation=adaptation)
