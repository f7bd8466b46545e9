"""What every strategy receives and returns."""

import dataclasses

import numpy as np

from tttjax.decode.config import SamplingConfig
from tttjax.tasks.example import Example
from tttjax.ttt.config import TTTConfig


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
    other: a different context of the same length, for controls; None without one.
  """

  example: Example
  tokens: np.ndarray
  capacity: int
  prompts: tuple[tuple[int, ...], ...]
  thinking_prompts: tuple[tuple[int, ...], ...]
  answers: tuple[tuple[int, ...], ...]
  rows: int
  other: 'Case | None' = None

  @property
  def num_tokens(self) -> int:
    return self.tokens.shape[1]

  @property
  def num_questions(self) -> int:
    return len(self.prompts)


@dataclasses.dataclass(frozen=True)
class Budget:
  """What a strategy may spend on one context.

  Attributes:
    ttt: steps N, span k and the optimizer's settings.
    answer: sampling of an answer without thinking.
    thinking: sampling with a thinking budget M.
    mechanism: measure the attention mass on the evidence too.
  """

  ttt: TTTConfig
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

  def __add__(self, other: 'Cost') -> 'Cost':
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

  def flops(self, question: int) -> int:
    """Model FLOPs of one question that is charged all shared work."""
    return self._shared() + self._own(question)

  def amortised_flops(self, question: int, questions: int) -> float:
    """Model FLOPs of one question that shares prefill and adaptation with the others."""
    return self._shared() / questions + self._own(question)

  def _shared(self) -> int:
    return sum(phase.shared_flops for phase in self.phases)

  def _own(self, question: int) -> int:
    return sum(phase.question_flops[question] for phase in self.phases if phase.question_flops)


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What the model wrote for one question.

  Attributes:
    text: the whole output, thoughts included.
    answer: the part after the thoughts.
    tokens: number of tokens generated.
    thinking_tokens: how many of them are thinking, forced ones included.
  """

  text: str
  answer: str
  tokens: int
  thinking_tokens: int


@dataclasses.dataclass(frozen=True)
class Result:
  """What a strategy returns for one context.

  Attributes:
    predictions: one per question.
    cost: what they cost together.
    evidence_mass: of each question, the attention mass on its evidence while the reference
      answer is predicted, mean over layers, heads and answer tokens; None where not measured.
  """

  predictions: tuple[Prediction, ...]
  cost: Cost
  evidence_mass: tuple[float, ...] | None = None
