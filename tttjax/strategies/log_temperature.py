"""The control without training: every query is scaled with the growth of log T."""

import dataclasses
import math
from typing import ClassVar

import jax

from tttjax.errors import UserError
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
from tttjax.ttt.weights import scaled_queries


@dataclasses.dataclass(frozen=True)
class LogTemperature(Reading):
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

  def check(self, config) -> None:
    super().check(config)
    if self.trained is not None and self.trained < 2:
      raise UserError(f"trained={self.trained} must be at least 2 tokens")

  def allowance(self, sizes: Sizes, reference: Reference) -> Allowance:
    return Allowance(answer_flops(sizes, delta=False), still(reference))

  def __call__(
    self, engine: Engine, case: Case, allowance: Allowance, decoding: Decoding, key: jax.Array
  ) -> Result:
    _, decode_key = jax.random.split(key)
    prefix, reading = engine.prefill(case, self.reading)
    scale = math.log(case.num_tokens) / math.log(self.trained or engine.trained_length)
    fast = scaled_queries(engine.model, scale)
    predictions, answering = engine.generate(case, prefix, fast, decoding.answer, decode_key)
    measured = engine.measure(case, prefix, fast) if decoding.mechanism else None
    return Result(predictions, reading + answering, measured)
