"""Beam search over thoughts: n beams share the context's cache and the budget."""

import dataclasses
from typing import ClassVar

import jax

from tttjax import flops
from tttjax.errors import UserError
from tttjax.session import Engine
from tttjax.spec import option
from tttjax.strategies.strategy import (
  Allowance,
  Case,
  Decoding,
  Reference,
  Result,
  Role,
  Sizes,
  still,
)


@dataclasses.dataclass(frozen=True)
class Beam:
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

  temperature: ClassVar[float] = 0.0  # it does not sample

  def check(self, config) -> None:
    if self.n < 2:
      raise UserError(f"beam(n={self.n}) must be at least 2")

  def allowance(self, sizes: Sizes, reference: Reference) -> Allowance:
    cost = lambda tokens: flops.beam(
      sizes.architecture, sizes.context, sizes.prompt, tokens + sizes.answer, self.n, delta=False
    )
    tokens = reference.tokens_per_sample(sizes, self.n, cost)
    return Allowance(cost(tokens), still(reference), tokens, self.n)

  def __call__(
    self, engine: Engine, case: Case, allowance: Allowance, decoding: Decoding, key: jax.Array
  ) -> Result:
    prefix, reading = engine.prefill(case)
    predictions, answering = engine.beam(case, prefix, decoding.thinking, self.n)
    return Result(predictions, reading + answering)
