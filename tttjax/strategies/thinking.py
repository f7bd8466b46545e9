"""Thinking: at most M thinking tokens, then the answer."""

import dataclasses
from typing import ClassVar

import jax

from tttjax import flops
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
  still,
)


@dataclasses.dataclass(frozen=True)
class Thinking(Reading):
  """The thinking section is closed by force where it has not ended after the budget."""

  name: ClassVar[str] = "thinking"
  label: ClassVar[str] = "thinking"
  role: ClassVar[Role] = Role.BASELINE
  description: ClassVar[str] = (
    "The model writes thinking tokens first, as many as the budget allows, then answers."
  )

  def allowance(self, sizes: Sizes, reference: Reference) -> Allowance:
    tokens = reference.thinking_tokens
    spent = flops.thinking(sizes.architecture, sizes.context, sizes.prompt, tokens, sizes.answer)
    return Allowance(spent, still(reference), tokens)

  def __call__(
    self, engine: Engine, case: Case, allowance: Allowance, decoding: Decoding, key: jax.Array
  ) -> Result:
    _, decode_key = jax.random.split(key)
    cache, reading = engine.prefill(case, self.reading)
    predictions, answering = engine.generate(case, cache, None, decoding.thinking, decode_key)
    measured = engine.measure(case, cache, None, predictions) if decoding.mechanism else None
    return Result(predictions, reading + answering, measured)
