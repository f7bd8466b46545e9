"""In-context: read the context, answer."""

import dataclasses
from typing import ClassVar

import jax

from tttjax.session import Engine
from tttjax.strategies.strategy import (
  Allowance,
  Case,
  Decoding,
  Reading,
  Reference,
  Result,
  Role,
  Sizes,
  answer_flops,
  still,
)


@dataclasses.dataclass(frozen=True)
class InContext(Reading):
  """Nothing is spent besides reading and answering."""

  name: ClassVar[str] = "in_context"
  label: ClassVar[str] = "in-context"
  role: ClassVar[Role] = Role.REFERENCE
  description: ClassVar[str] = (
    "The model reads the context and answers at once. This is what all others are compared with."
  )

  def allowance(self, sizes: Sizes, reference: Reference) -> Allowance:
    return Allowance(answer_flops(sizes, delta=False), still(reference))

  def __call__(
    self, engine: Engine, case: Case, allowance: Allowance, decoding: Decoding, key: jax.Array
  ) -> Result:
    _, decode_key = jax.random.split(key)
    cache, reading = engine.prefill(case, self.reading)
    predictions, answering = engine.generate(case, cache, None, decoding.answer, decode_key)
    measured = engine.measure(case, cache, None) if decoding.mechanism else None
    return Result(predictions, reading + answering, measured)
