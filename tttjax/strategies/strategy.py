"""What every strategy receives, may spend and returns."""

from collections.abc import Callable
import dataclasses
import enum
from typing import ClassVar, Protocol

import jax
import numpy as np

from tttjax import flops
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.models.decoder_config import DecoderConfig
from tttjax.spec import option
from tttjax.tasks.example import Example
from tttjax.ttt.hyperparameters import TTTConfig


@dataclasses.dataclass(frozen=True)
class Case:
  """An example as token ids, with the sizes of the compiled programs it runs in.

  Attributes:
    example: the text.
    tokens: int32 [1, T], the context.
    capacity: slots of its cache, at least T.
    prompts: one int tuple per question: the suffix that asks for the answer at once.
    thinking_prompts: the same, ending where the thinking section has just been opened.
    answers: token ids of the reference answers.
    rows: rows of every batch; questions beyond the example's repeat its first one.
    prompt_width, answer_width: tokens that batches of prompts, and of prompts with their reference
      answers, are padded to at least.
    extract: an output's answer in one canonical form, None where it has none: what votes.
    other: a different context of the same length, for controls; None without one.
  """

  example: Example
  tokens: np.ndarray
  capacity: int
  prompts: tuple[tuple[int, ...], ...]
  thinking_prompts: tuple[tuple[int, ...], ...]
  answers: tuple[tuple[int, ...], ...]
  rows: int
  prompt_width: int
  answer_width: int
  extract: Callable[[str], str | None]
  other: "Case | None" = None

  @property
  def num_tokens(self) -> int:
    return self.tokens.shape[1]

  @property
  def num_questions(self) -> int:
    return len(self.prompts)


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What FLOP counts depend on besides the method: the architecture and the lengths in tokens.

  Attributes:
    architecture: of the model.
    context, prompt, answer: tokens; context is the shorter one of the case's and its control's.
    longest: tokens of the longer one of the two, for which there must be positions.
    cut_spans: a span longer than the context is cut, not refused: lengths are not in tokens.
  """

  architecture: DecoderConfig
  context: int
  prompt: int
  answer: int
  longest: int
  cut_spans: bool = False


@dataclasses.dataclass(frozen=True)
class Reference:
  """The budget of a run on one context, to which the strategies are matched.

  Attributes:
    ttt: the steps N, the span k and the optimizer's settings.
    thinking_tokens: M of one thought.
    flops: model FLOPs after the prefill that a question may cost: those of N steps and the answer.
    rule: how M of several samples follows: 'flops' within `flops`, 'tokens' M / n each (the paper).
  """

  ttt: TTTConfig
  thinking_tokens: int
  flops: int
  rule: str

  def tokens_per_sample(self, sizes: Sizes, samples: int, cost: Callable[[int], int]) -> int:
    """Thinking tokens of each of `samples` thoughts that together keep the budget.

    Args:
      cost: model FLOPs after the prefill of all samples with so many thinking tokens each.

    Raises:
      UserError: not even one token each.
    """
    if self.rule == "tokens":
      tokens = self.thinking_tokens // samples
    else:
      tokens = flops.largest_within(self.flops, cost)
    if tokens < 1:
      by_tokens = self.rule == "tokens"
      given = f"{self.thinking_tokens} tokens" if by_tokens else f"{self.flops:.2e} FLOPs"
      remedy = "config.thinking.budget" if by_tokens else "config.ttt.steps"
      raise UserError(
        f"the budget of {given} leaves no thinking token for each of {samples} samples at"
        f" {sizes.context} tokens; raise {remedy}, or take fewer samples"
      )
    return tokens


@dataclasses.dataclass(frozen=True)
class Allowance:
  """What a strategy may spend on one question after the prefill, whatever it then uses.

  Attributes:
    flops: model FLOPs of spending it all; spans at uniform starts.
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


@dataclasses.dataclass(frozen=True)
class Decoding:
  """How one strategy decodes on one context.

  Attributes:
    answer: sampling of an answer without thinking.
    thinking: sampling with the allowance's thinking budget; equal to `answer` without one.
    mechanism: measure what the attention does to the evidence too.
  """

  answer: SamplingConfig
  thinking: SamplingConfig
  mechanism: bool = False


@dataclasses.dataclass(frozen=True)
class Phase:
  """One phase's cost on one context, all of its questions together.

  Attributes:
    name: 'prefill', 'adapt' or 'generate'.
    seconds: wall clock until the result was ready.
    compiled: whether a program was compiled in that time, which makes it no measurement.
    shared_flops: model FLOPs done once for all questions.
    question_flops: model FLOPs of each question, where they differ.
  """

  name: str
  seconds: float
  compiled: bool
  shared_flops: int = 0
  question_flops: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Cost:
  """The phases of one strategy on one context."""

  phases: tuple[Phase, ...] = ()

  def __add__(self, other: "Cost") -> "Cost":
    return Cost(self.phases + other.phases)

  @property
  def compiled(self) -> bool:
    return any(phase.compiled for phase in self.phases)

  def seconds(self) -> dict[str, float]:
    """Seconds by phase name."""
    total: dict[str, float] = {}
    for phase in self.phases:
      total[phase.name] = total.get(phase.name, 0.0) + phase.seconds
    return total

  def phase_flops(self, question: int) -> dict[str, int]:
    """Model FLOPs by phase of one question that is charged all shared work."""
    total: dict[str, int] = {}
    for phase in self.phases:
      own = phase.question_flops[question] if phase.question_flops else 0
      total[phase.name] = total.get(phase.name, 0) + phase.shared_flops + own
    return total

  def flops(self, question: int) -> int:
    """Model FLOPs of one question that is charged all shared work."""
    return sum(self.phase_flops(question).values())

  def amortised_flops(self, question: int, questions: int) -> float:
    """Model FLOPs of one question that shares prefill and adaptation with the others."""
    shared = sum(phase.shared_flops for phase in self.phases)
    return self.flops(question) - shared + shared / questions


@dataclasses.dataclass(frozen=True)
class Ending:
  """How one output ended.

  Attributes:
    answer: rows.STOP, by a stop token, or rows.LIMIT, cut off at its longest.
    thought: rows.CLOSED by the model, rows.FORCED by the budget, or None without thinking.
  """

  answer: str
  thought: str | None


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What the model wrote for one question.

  Attributes:
    texts: the whole output of each sample, thoughts included.
    answer: the answer's text, after the thoughts; of several samples the one chosen.
    tokens: number of tokens generated, all samples together.
    thinking_tokens: how many of them are thinking per sample, forced ones included; a mean.
    ids: the tokens of the (first) sample.
    endings: how each sample ended.
  """

  texts: tuple[str, ...]
  answer: str
  tokens: int
  thinking_tokens: float
  ids: tuple[int, ...]
  endings: tuple[Ending, ...]


@dataclasses.dataclass(frozen=True)
class Mechanism:
  """What the attention does while one answer is produced: means over heads and output tokens.

  Attributes:
    mass: share of the attention on the evidence, mean over layers too (paper, tables 2 and 3).
    margin: gamma, the evidence's logsumexp minus that of all other slots (paper, section 2).
    lead: the evidence's logsumexp minus the largest other score.
    mass_by_layer: the mass of each layer.
    during: while the 'reference' answer is predicted, or while the 'output' itself is, thoughts
      included; the two are not to be compared.
    heldout_before, heldout_after: next-token loss, nats per token, of spans that were not trained
      on, before and after adaptation; None without adaptation or room for such spans.
  """

  mass: float
  margin: float
  lead: float
  mass_by_layer: tuple[float, ...]
  during: str
  heldout_before: float | None = None
  heldout_after: float | None = None


@dataclasses.dataclass(frozen=True)
class Adaptation:
  """How one adaptation went.

  Attributes:
    loss: of each step, nats per token of its span.
    start: first input token of each span.
    fallback: why the answer was given with the base weights instead; None where it was not.
  """

  loss: tuple[float, ...]
  start: tuple[int, ...]
  fallback: str | None = None


@dataclasses.dataclass(frozen=True)
class Result:
  """What a strategy returns for one context.

  Attributes:
    predictions: one per question.
    cost: what they cost together.
    mechanism: of each question; None where not measured, or where that failed.
    adaptation: None where nothing was trained.
  """

  predictions: tuple[Prediction, ...]
  cost: Cost
  mechanism: tuple[Mechanism | None, ...] | None = None
  adaptation: Adaptation | None = None


class Role(enum.Enum):
  """What a strategy is for in a comparison."""

  REFERENCE = "reference"  # what all others are compared with
  BASELINE = "baseline"
  METHOD = "method"
  CONTROL = "control"  # shows what part of a gain is owed to what


class Strategy(Protocol):
  """A way to spend compute before answering: a frozen dataclass whose fields are its options.

  Everything that is said of it elsewhere it says itself, in class variables.

  Attributes:
    name: in configs and rows.
    label, description: for tables and reports; plain text, the description in sentences.
    role: in comparisons.
    compared_with: names of strategies that it is compared with, of the same options, beside the
      reference. Optional.
  """

  name: ClassVar[str]
  label: ClassVar[str]
  description: ClassVar[str]
  role: ClassVar[Role]

  def check(self, config) -> None:
    """Raises UserError where its options do not fit the run's config; loads nothing."""

  def allowance(self, sizes: Sizes, reference: Reference) -> Allowance:
    """What it may spend on one question; raises UserError where that is too little to do it."""

  def __call__(
    self, engine, case: Case, allowance: Allowance, decoding: Decoding, key: jax.Array
  ) -> Result:
    """Answers all questions of the case."""


@dataclasses.dataclass(frozen=True)
class Reading:
  """How a context is read; the options that strategies share.

  Attributes:
    rope: rotate queries and keys; off is the paper's switch of table 3, in prefill and after.
    stretch: spread the context's positions over this many, its lines kept whole; 0 leaves them. The
      control that tells long distances from many competitors.
  """

  rope: bool = option(
    True,
    {"off": "RoPE off"},
    "RoPE off: positions are not encoded at all, and the context is read again that way. Shows what"
    " part distance plays.",
  )
  stretch: int = option(
    0,
    "stretched to {}",
    "Stretched, a control: the same context with its positions spread out as if it were longer."
    " Distances grow, the number of competitors does not; if accuracy stays, it is competition, not"
    " distance, that hurts.",
  )

  def check(self, config) -> None:
    if self.stretch and config.unit == "tokens" and self.stretch < max(config.lengths):
      raise UserError(
        f"stretch={self.stretch} is shorter than the longest of"
        f" config.lengths, {max(config.lengths)}; stretch to at least that"
      )

  @property
  def reading(self) -> "Reading":
    """The reading alone, as the engine takes it."""
    return Reading(self.rope, self.stretch)


def adapt_flops(sizes: Sizes, ttt: TTTConfig, steps: int) -> int:
  """Model FLOPs of `steps` query-only steps at uniform starts."""
  return flops.adapt(sizes.architecture, sizes.context, ttt.span, steps, span_kv=ttt.span_kv)


def answer_flops(sizes: Sizes, delta: bool) -> int:
  """Model FLOPs of encoding the question and writing the longest answer at once."""
  return flops.decode(sizes.architecture, sizes.context, sizes.prompt, sizes.answer, delta)


def fitting_span(span: int, sizes: Sizes) -> int:
  """`span`, or the largest power of two of inputs and targets that a shorter context holds.

  Powers of two, because each span is a program of its own.

  Raises:
    UserError: it does not fit, and lengths are in tokens, so that it could have been chosen to.
  """
  room = sizes.context - 1
  if span > room and not sizes.cut_spans:
    raise UserError(
      f"span={span} does not fit a context of {sizes.context} tokens: a span needs one more than"
      " its length; lower config.ttt.span"
    )
  return span if span <= room else 1 << (room.bit_length() - 1)


def still(reference: Reference) -> TTTConfig:
  """The reference's settings with no step: a strategy that does not adapt."""
  return dataclasses.replace(reference.ttt, steps=0)
