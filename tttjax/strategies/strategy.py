"""What every strategy receives and returns, and what it says about itself."""

from collections.abc import Callable
import dataclasses
import enum
from typing import ClassVar, Protocol

import jax
import numpy as np

from tttjax.checks import check_number
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.session import Adaptation, Cost, Ending, Mechanism, Output, ReadContext, Room, Session
from tttjax.spec import option
from tttjax.strategies.budget import Allowance, Budget
from tttjax.tasks.example import Example


@dataclasses.dataclass(frozen=True)
class Decoding:
  """How answers to one context are decoded.

  Attributes:
    answer: sampling of an answer without thinking.
    thinking: the same after thoughts, but for their budget.
    positions: that the model has, for the context and everything after it.
    mechanism: measure what the attention does to the evidence too.
  """

  answer: SamplingConfig
  thinking: SamplingConfig
  positions: int
  mechanism: bool = False

  def with_thoughts(self, tokens: int, begin: int) -> SamplingConfig:
    """Sampling with a thinking budget of `tokens`, inserted ones included.

    Args:
      begin: positions taken before the first thinking token.

    Raises:
      UserError: too few tokens to insert the forced stop.
    """
    forced = len(self.thinking.forced_stop_ids)
    if tokens <= forced:
      raise UserError(
        f"{tokens} thinking tokens are too few for the {forced} of the forced stop; raise the"
        " budget, or take fewer samples"
      )
    longest = self.answer.max_new_tokens
    # Budgets differ by a few tokens from context to context; one program serves them.
    room = _rounded(tokens) + longest
    room = max(min(room, self.positions - begin), tokens + longest)
    return dataclasses.replace(
      self.thinking,
      max_new_tokens=room,
      thinking_budget=tokens - forced,
      max_answer_tokens=longest,
    )


def _rounded(tokens: int) -> int:
  """The next multiple of a quarter of the power of two below, and of 64."""
  step = max(64, (1 << (max(tokens, 1).bit_length() - 1)) // 4)
  return -(-tokens // step) * step


@dataclasses.dataclass(frozen=True)
class Case:
  """A context with the questions that are asked about it, as token ids.

  Attributes:
    example: the text; its questions are those asked.
    tokens: int32 [1, T], the context.
    capacity: slots of its cache, at least T.
    prompts: ids per question: the suffix that asks for the answer at once.
    thinking_prompts: the same up to where a thought goes on: its section, or its first words.
    answers: ids of the first reference of each question.
    room: what batches of its questions are padded to at least.
    extract: an output's answer in one canonical form, None where it has none: what votes.
    decoding: of its answers.
    other: a different context of the same length, for controls; None without one.
  """

  example: Example
  tokens: np.ndarray
  capacity: int
  prompts: tuple[tuple[int, ...], ...]
  thinking_prompts: tuple[tuple[int, ...], ...]
  answers: tuple[tuple[int, ...], ...]
  room: Room
  extract: Callable[[str], str | None]
  decoding: Decoding
  other: "Case | None" = None

  @property
  def num_tokens(self) -> int:
    return self.tokens.shape[1]

  @property
  def num_questions(self) -> int:
    return len(self.prompts)


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The answer to one question.

  Attributes:
    answer: its text, after the thoughts; of several samples the one chosen.
    outputs: of each sample.
    tokens: number of tokens generated, all samples or beams together.
  """

  answer: str
  outputs: tuple[Output, ...]
  tokens: int

  @classmethod
  def of(cls, outputs: tuple[Output, ...], chosen: int = 0, beams: int = 1) -> "Prediction":
    """That of outputs of which one was chosen."""
    return cls(outputs[chosen].answer, outputs, beams * sum(output.steps for output in outputs))

  @property
  def thinking_tokens(self) -> float:
    """Per sample, inserted ones included."""
    return sum(output.thinking_tokens for output in self.outputs) / len(self.outputs)

  @property
  def endings(self) -> tuple[Ending, ...]:
    return tuple(output.ending for output in self.outputs)


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

  Options that are wrong whatever the run are refused by its `__post_init__`. Everything that is
  said of it elsewhere it says itself, in class variables.

  Attributes:
    name: in configs and rows.
    label, description: for tables and reports; plain text, the description in sentences.
    role: in comparisons.
    compared_with: names of strategies that it is compared with, of the same options, beside the
      reference. Optional.
    trains_elsewhere: whether it trains on another context than the one of the questions. Optional.
  """

  name: ClassVar[str]
  label: ClassVar[str]
  description: ClassVar[str]
  role: ClassVar[Role]

  def allowance(self, budget: Budget) -> Allowance:
    """What it may spend on one question; raises UserError where that is too little to do it."""

  def __call__(self, session: Session, case: Case, allowance: Allowance, key: jax.Array) -> Result:
    """Answers all questions of the case."""


class Answering:
  """What strategies do alike: read the context, decode the answers, measure."""

  rope: bool = True
  stretch: int = 0

  def read(self, session: Session, case: Case) -> tuple[ReadContext, Cost]:
    """Prefills the case's context this way."""
    positions = case.example.stretched_positions(self.stretch) if self.stretch else None
    return session.read(case.tokens, case.capacity, self.rope, positions)

  def end(self, case: Case) -> int:
    """Positions that the context takes."""
    return max(case.num_tokens, self.stretch)

  def sampling(self, case: Case, allowance: Allowance) -> SamplingConfig:
    """How this strategy decodes: with thoughts where it may think."""
    if allowance.thinking_tokens is None:
      return case.decoding.answer
    begin = self.end(case) + max(map(len, case.thinking_prompts))
    return case.decoding.with_thoughts(allowance.thinking_tokens, begin)

  def answer(
    self,
    session: Session,
    case: Case,
    context: ReadContext,
    fast,
    allowance: Allowance,
    key: jax.Array,
    question_before: bool = False,
  ) -> tuple[tuple[Prediction, ...], Cost]:
    """One output for every question, thoughts first where there is a budget for them."""
    thinks = allowance.thinking_tokens is not None
    outputs, cost = session.generate(
      context,
      fast,
      case.thinking_prompts if thinks else case.prompts,
      self.sampling(case, allowance),
      key,
      question_before=question_before,
      room=case.room,
    )
    return tuple(map(Prediction.of, outputs)), cost

  def measure(
    self,
    session: Session,
    case: Case,
    context: ReadContext,
    fast,
    predictions: tuple[Prediction, ...] | None = None,
    adaptation: Adaptation | None = None,
    span: int = 0,
  ) -> tuple[Mechanism | None, ...] | None:
    """What the attention does to the evidence; None where it is not asked for, or not known where.

    Args:
      predictions: measure while these are written, thoughts included; None: while the reference
        answers would be.
      adaptation, span: measure the loss of spans that it did not train on, too.
    """
    evidence = [question.evidence for question in case.example.questions]
    if not case.decoding.mechanism or None in evidence:
      return None
    if predictions is None:
      prompts, written, during = case.prompts, case.answers, "reference"
    else:
      prompts, during = case.thinking_prompts, "output"
      written = [prediction.outputs[0].ids for prediction in predictions]
    return session.measure(
      context, fast, prompts, written, evidence, during, adaptation, span, case.room
    )


@dataclasses.dataclass(frozen=True)
class WithPositions(Answering):
  """Strategies with options for the positions at which the context is read.

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

  def __post_init__(self):
    check_number("stretch", self.stretch, 0, whole=True)
