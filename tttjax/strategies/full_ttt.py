"""Full-parameter test-time training: every weight is trained on the whole context.

The baseline that the paper calls infeasible (section 3): one step over T tokens costs about as much
as decoding 1.2 T tokens, and each changes the keys and values, so the cache is made again.
"""

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
  answer_flops,
)


@dataclasses.dataclass(frozen=True)
class FullTTT:
  """A given number of steps: they are not matched, since one alone may exceed the budget.

  Attributes:
    steps: over all tokens of the context.
    learning_rate: AdamW's; None the config's.
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

  def check(self, config) -> None:
    if self.steps < 1:
      raise UserError(f"full_ttt(steps={self.steps}) must be at least 1")

  def allowance(self, sizes: Sizes, reference: Reference) -> Allowance:
    rate = reference.ttt.learning_rate if self.learning_rate is None else self.learning_rate
    # A step's targets are all tokens of the context but the first.
    ttt = dataclasses.replace(
      reference.ttt, steps=self.steps, learning_rate=rate, span=sizes.context - 1
    )
    training = self.steps * flops.full_ttt_step(sizes.architecture, sizes.context)
    spent = training + answer_flops(sizes, delta=False)
    return Allowance(spent, ttt, shared_flops=training)

  def __call__(
    self, engine: Engine, case: Case, allowance: Allowance, decoding: Decoding, key: jax.Array
  ) -> Result:
    _, decode_key = jax.random.split(key)
    trained, adaptation, adapting = engine.full_ttt(case, allowance.ttt)
    prefix, reading = trained.prefill(case)
    predictions, answering = trained.generate(case, prefix, None, decoding.answer, decode_key)
    measured = trained.measure(case, prefix, None) if decoding.mechanism else None
    return Result(predictions, adapting + reading + answering, measured, adaptation)
