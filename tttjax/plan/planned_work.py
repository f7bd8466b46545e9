"""What a strategy runs on one context, with exact FLOPs."""

import dataclasses

from tttjax import flops
from tttjax.errors import UserError
from tttjax.models.decoder_config import DecoderConfig
from tttjax.strategies import Strategy
from tttjax.strategies.budget import Allowance, Budget, Lengths
from tttjax.ttt.hyperparameters import TTTConfig

# Others need more programs than these three: another context, every weight's optimizer, beams.
PLANNED = ("in_context", "thinking", "self_consistency", "qttt")
PROMPT_TOKENS = 128  # a question


@dataclasses.dataclass(frozen=True)
class Work:
  """One question about one context, answered by one strategy.

  Attributes:
    architecture: of the model.
    context: T, tokens.
    ttt: steps (0: no adaptation) and span.
    samples: outputs that share the context.
    new_tokens: of each, thoughts included.
  """

  architecture: DecoderConfig
  context: int
  ttt: TTTConfig
  samples: int
  new_tokens: int

  @property
  def adapts(self) -> bool:
    return self.ttt.steps > 0

  def flops(self) -> dict[str, int]:
    """Model FLOPs of each phase."""
    found = {"prefill": flops.prefill(self.architecture, self.context)}
    if self.adapts:
      found["adapt"] = flops.adapt(
        self.architecture, self.context, self.ttt.span, self.ttt.steps, span_kv=self.ttt.span_kv
      )
    shape = self.architecture, self.context, PROMPT_TOKENS, self.new_tokens
    return found | {"generate": self.samples * flops.decode(*shape, self.adapts)}


def work_of(
  architecture: DecoderConfig, context: int, strategy: Strategy, answer_tokens: int
) -> Work:
  """What `strategy` runs; thinking gets what the default steps of qTTT cost.

  Raises:
    UserError: a strategy of other programs, a context too short for its span, no budget to think.
  """
  if strategy.name not in PLANNED:
    raise UserError(f"{strategy.name} cannot be planned: choose {', '.join(PLANNED)}")
  lengths = Lengths(architecture, context, PROMPT_TOKENS, answer_tokens, context)
  allowed: Allowance = strategy.allowance(Budget.of_steps(lengths, TTTConfig()))
  thoughts = allowed.thinking_tokens or 0
  return Work(architecture, context, allowed.ttt, allowed.samples, thoughts + answer_tokens)
