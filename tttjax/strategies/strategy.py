"""What every strategy receives and returns, and what it says about itself."""

import dataclasses
import enum
from typing import ClassVar, Protocol

import jax

from tttjax.session import Adaptation, Cost, Ending, Mechanism, Output, Session
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.case import Case


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
  def of(cls, outputs: tuple[Output, ...], chosen: int = 0) -> "Prediction":
    """The prediction of several outputs of which one was chosen."""
    return cls(outputs[chosen].answer, outputs, sum(output.generated for output in outputs))

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
