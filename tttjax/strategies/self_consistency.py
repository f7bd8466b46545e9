"""Self-consistency: n thoughts share the context's cache, and their answers vote."""

import collections
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
  Prediction,
  Reference,
  Result,
  Role,
  Sizes,
  still,
)


@dataclasses.dataclass(frozen=True)
class SelfConsistency:
  """The budget is shared by the n samples (paper, tables 8 and 9).

  Attributes:
    n: samples.
    temperature: of all of them; None takes config.thinking.temperature, which must then be above 0.
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

  def check(self, config) -> None:
    if self.n < 1:
      raise UserError(f"self_consistency(n={self.n}) must be at least 1")
    temperature = config.thinking.temperature if self.temperature is None else self.temperature
    if not temperature > 0 and self.n > 1:
      raise UserError(
        f"self_consistency votes over equal samples at temperature"
        f" {temperature}; write self_consistency(temperature=0.6) or set"
        " config.thinking.temperature"
      )

  def allowance(self, sizes: Sizes, reference: Reference) -> Allowance:
    cost = lambda tokens: (
      self.n * flops.thinking(sizes.architecture, sizes.context, sizes.prompt, tokens, sizes.answer)
    )
    tokens = reference.tokens_per_sample(sizes, self.n, cost)
    return Allowance(cost(tokens), still(reference), tokens, self.n)

  def __call__(
    self, engine: Engine, case: Case, allowance: Allowance, decoding: Decoding, key: jax.Array
  ) -> Result:
    _, decode_key = jax.random.split(key)
    prefix, reading = engine.prefill(case)
    sampling = decoding.thinking
    if self.temperature is not None:
      sampling = dataclasses.replace(sampling, temperature=self.temperature)
    samples, answering = engine.sample(case, prefix, sampling, decode_key, self.n)
    return Result(tuple(_vote(case, own) for own in samples), reading + answering)


def _vote(case: Case, samples: list[Prediction]) -> Prediction:
  """The most frequent answer, the earliest of several such; outputs without one abstain."""
  answers = [case.extract(sample.answer) for sample in samples]
  votes = collections.Counter(answer for answer in answers if answer is not None)
  chosen = answers.index(votes.most_common(1)[0][0]) if votes else 0
  return Prediction(
    texts=tuple(text for sample in samples for text in sample.texts),
    answer=samples[chosen].answer,
    tokens=sum(sample.tokens for sample in samples),
    thinking_tokens=sum(sample.thinking_tokens for sample in samples) / len(samples),
    ids=samples[chosen].ids,
    endings=tuple(ending for sample in samples for ending in sample.endings),
  )
