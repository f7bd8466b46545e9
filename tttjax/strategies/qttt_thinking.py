"""qTTT, then thinking: the budget is shared between steps and thinking tokens."""

import dataclasses
from typing import ClassVar

import jax

from tttjax import flops
from tttjax.errors import UserError
from tttjax.session import Engine
from tttjax.strategies.qttt import Adapting
from tttjax.strategies.strategy import (
  Allowance,
  Case,
  Decoding,
  Reference,
  Result,
  Role,
  Sizes,
  adapt_flops,
)


@dataclasses.dataclass(frozen=True)
class QTTTThinking(Adapting):
  """Adapts with a share of the steps, and thinks with the adapted queries for what is left.

  Attributes:
    share: of the N steps; rounded down.
  """

  name: ClassVar[str] = "qttt_thinking"
  label: ClassVar[str] = "qTTT, then thinking"
  role: ClassVar[Role] = Role.METHOD
  description: ClassVar[str] = "qTTT with a part of the budget, then thinking with the rest."

  share: float = 0.5

  def check(self, config) -> None:
    super().check(config)
    if not 0 < self.share < 1:
      raise UserError(f"share={self.share} must be above 0 and below 1")

  def allowance(self, sizes: Sizes, reference: Reference) -> Allowance:
    whole = self.matched(sizes, reference)
    ttt = dataclasses.replace(whole, steps=int(whole.steps * self.share))
    if ttt.steps < 1:
      raise UserError(
        f"the budget of {whole.steps} steps is too small for one step at share={self.share};"
        " raise config.ttt.steps or the share"
      )
    shape = sizes.architecture, sizes.context, sizes.prompt
    adapting = adapt_flops(sizes, ttt, ttt.steps)
    cost = lambda tokens: adapting + flops.decode(*shape, tokens + sizes.answer, delta=True)
    if reference.rule == "tokens":
      tokens = int(reference.thinking_tokens * (1 - self.share))
    else:
      tokens = flops.largest_within(reference.flops, cost)
    if tokens < 1:
      raise UserError(
        f"the budget leaves no thinking token after {ttt.steps} steps at {sizes.context} tokens;"
        " raise config.ttt.steps or config.thinking.budget"
      )
    return Allowance(cost(tokens), ttt, tokens, shared_flops=adapting)

  def __call__(
    self, engine: Engine, case: Case, allowance: Allowance, decoding: Decoding, key: jax.Array
  ) -> Result:
    span_key, decode_key = jax.random.split(key)
    prefix, reading = engine.prefill(case, self.reading)
    fast, adaptation, adapting = self.adapt(engine, case, prefix, allowance.ttt, span_key)
    predictions, answering = engine.generate(
      case, prefix, fast, decoding.thinking, decode_key, self.before
    )
    measured = None
    if decoding.mechanism and not self.before:
      measured = engine.measure(
        case, prefix, fast, predictions, adaptation=adaptation, ttt=allowance.ttt
      )
    return Result(predictions, reading + adapting + answering, measured, adaptation)
