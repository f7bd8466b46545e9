"""What a run gives on one context, and what strategies make of it: budgets of equal FLOPs."""

from collections.abc import Callable, Sequence
import dataclasses

from tttjax import flops
from tttjax.errors import UserError
from tttjax.models.decoder_config import DecoderConfig
from tttjax.ttt.hyperparameters import TTTConfig

# (context tokens, span, steps) -> int [steps], where uniform spans will start.
Starts = Callable[[int, int, int], Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Lengths:
  """What FLOP counts of one context depend on besides the method.

  Attributes:
    architecture: of the model.
    context, prompt, answer: tokens: of the context, the longest question and the longest answer.
    other: tokens of the control's context.
    starts: where spans that are drawn uniformly start; None counts the mean over all starts.
    cut_spans: a span longer than the context is cut, not refused: lengths are not in tokens.
  """

  architecture: DecoderConfig
  context: int
  prompt: int
  answer: int
  other: int
  starts: Starts | None = None
  cut_spans: bool = False

  @property
  def shape(self) -> tuple[DecoderConfig, int, int]:
    """(architecture, context, prompt), as the counts take them."""
    return self.architecture, self.context, self.prompt

  def adapt_flops(self, ttt: TTTConfig, steps: int, starts: Sequence[int] | None = None) -> int:
    """Model FLOPs of `steps` query-only steps on this context; uniform spans without `starts`."""
    if starts is None and self.starts is not None:
      starts = self.starts(self.context, ttt.span, steps)
    return flops.adapt(
      self.architecture, self.context, ttt.span, steps, starts, span_kv=ttt.span_kv
    )

  def answer_flops(self, delta: bool) -> int:
    """Model FLOPs of encoding the question and writing the longest answer at once."""
    return flops.decode(*self.shape, self.answer, delta)

  def fitting_span(self, span: int) -> int:
    """`span`, or the largest power of two of inputs and targets that a shorter context holds.

    Powers of two, because each span is a program of its own.

    Raises:
      UserError: it does not fit, and lengths are in tokens, so that it could have been chosen to.
    """
    room = min(self.context, self.other) - 1
    if span > room and not self.cut_spans:
      raise UserError(
        f"span={span} does not fit a context of {room + 1} tokens: a span needs one more than its"
        " length; use a smaller span"
      )
    return span if span <= room else 1 << (room.bit_length() - 1)


@dataclasses.dataclass(frozen=True)
class Budget:
  """The budget of a run on one context, to which the strategies are matched.

  Attributes:
    lengths: of the context.
    ttt: the steps N, the span k and the optimizer's settings.
    thinking_tokens: M of one thought.
    flops: model FLOPs after the prefill that a question may cost: those of N steps on the spans
      that this context draws, and of the answer. Every question is charged the whole adaptation,
      as in the paper.
    rule: how M of several samples follows: 'flops' within `flops`, 'tokens' M / n each (the paper).
    temperature: of thoughts.
  """

  lengths: Lengths
  ttt: TTTConfig
  thinking_tokens: int
  flops: int
  rule: str
  temperature: float = 0.0

  @classmethod
  def of_steps(cls, lengths: Lengths, ttt: TTTConfig, temperature: float = 0.0) -> "Budget":
    """What the steps and the answer cost, and the thinking tokens that cost as much."""
    paid = lengths.adapt_flops(ttt, ttt.steps) + lengths.answer_flops(delta=True)
    tokens = flops.largest_within(paid, lambda n: flops.thinking(*lengths.shape, n, lengths.answer))
    return cls(lengths, ttt, tokens, paid, "flops", temperature)

  def tokens_within(self, cost: Callable[[int], int], share: float) -> int:
    """Thinking tokens of each thought that keep the budget.

    Args:
      cost: model FLOPs after the prefill of everything, with so many thinking tokens each.
      share: of M that each gets by the rule of tokens.

    Raises:
      UserError: not even one.
    """
    if self.rule == "tokens":
      tokens = int(self.thinking_tokens * share)
    else:
      tokens = flops.largest_within(self.flops, cost)
    if tokens < 1:
      given = f"{self.flops:.2e} FLOPs"
      if self.rule == "tokens":
        given = f"{self.thinking_tokens} thinking tokens"
      raise UserError(
        f"the budget of {given} leaves no thinking token at {self.lengths.context} tokens; raise"
        " it, or take fewer samples or steps"
      )
    return tokens

  def still(self) -> TTTConfig:
    """The settings with no step: of a strategy that does not adapt."""
    return dataclasses.replace(self.ttt, steps=0)


@dataclasses.dataclass(frozen=True)
class Allowance:
  """What a strategy may spend on one question after the prefill, whatever it then uses.

  Attributes:
    flops: model FLOPs of spending it all.
    ttt: its steps N, span k and optimizer settings; N = 0 where it does not adapt.
    thinking_tokens: M of each sample, inserted ones included; None where it answers at once.
    samples: thoughts or beams.
    shared_flops: the part of `flops` that is spent once for all questions of a context.
    prefills: contexts that are read.
  """

  flops: int
  ttt: TTTConfig
  thinking_tokens: int | None = None
  samples: int = 1
  shared_flops: int = 0
  prefills: int = 1
