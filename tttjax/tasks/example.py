"""What a task hands on: one context and the questions asked about it."""

from collections.abc import Mapping
import dataclasses

import numpy as np

from tttjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class SecondCall:
  """A second prompt, without the context, that makes the answer of what the first one brought.

  The user's message is `before`, the text that was written, and `after`.

  Attributes:
    before, after: around that text.
    max_new_tokens: longest answer.
  """

  before: str
  after: str
  max_new_tokens: int


@dataclasses.dataclass(frozen=True)
class Question:
  """One question about a context.

  Attributes:
    text: suffix of the prompt, from the question to the generation prompt without thinking;
      it follows `Example.context` directly.
    thinking_text: the same suffix up to where a thought begins: a thinking section, where the
      model has those, has just been opened.
    references: the right answers, as the model should write them; a metric takes the best match.
      () where they are not public: then nothing is scored.
    metrics: names of what is scored (tttjax.tasks.metrics); the first is the primary one, which
      tables and figures show.
    max_new_tokens: longest answer, thoughts not counted.
    evidence: token spans [start, end) of `Example.context` that the answer is read from, ascending
      and disjoint; an anomaly may need several places. None where it is not known: then nothing
      that needs it is measured.
    choices: the texts to choose from; None for a free answer.
    chance: expected value of the primary metric for a guess that knows the form of the answer and
      the candidates in the context, but nothing else; None where it cannot be said.
    slices: what tables may be split by, such as kind, domain, difficulty.
    asked: how many first characters of both texts are the user's; what follows is the chat
      template's.
    key: names the question within its source; '' where its number does.
    source: what its source says about it, for the source's own format of results.
    second: makes the answer of what is written first; None where that is the answer.
  """

  text: str
  thinking_text: str
  references: tuple[str, ...]
  metrics: tuple[str, ...]
  max_new_tokens: int
  evidence: tuple[tuple[int, int], ...] | None = None
  choices: tuple[str, ...] | None = None
  chance: float | None = None
  slices: Mapping[str, str] = dataclasses.field(default_factory=dict)
  asked: int = 0
  key: str = ""
  source: Mapping[str, str] = dataclasses.field(default_factory=dict)
  second: SecondCall | None = None


@dataclasses.dataclass(frozen=True)
class Example:
  """One context with its questions.

  Attributes:
    context: prefix of the prompt, chat header included; shared by all questions.
    questions: questions, each independent of the others.
    num_tokens: length of `context` in tokens.
    line_starts: token index in `context` at which each line of the haystack starts, ascending;
      the places where a stretch control may make positions jump.
    key: names the example uniquely within its task.
    header: how many first characters of `context` are the chat template's; what follows is the
      user's.
    kept: share of the source's tokens that `context` has, where that was cut.
  """

  context: str
  questions: tuple[Question, ...]
  num_tokens: int
  line_starts: tuple[int, ...]
  key: str
  header: int = 0
  kept: float = 1.0

  def stretched_positions(self, span: int) -> np.ndarray:
    """Positions int32 [num_tokens] that spread the lines evenly over 0 .. span-1.

    The stretch control: the competition is that of a short context, the distances are those of a
    context of `span` tokens.

    Raises:
      UserError: span is shorter than the context.
    """
    if span < self.num_tokens:
      raise UserError(
        f"stretch={span} is shorter than the context of {self.num_tokens} tokens: "
        "stretch to the length of a longer one"
      )
    jumps = np.zeros(self.num_tokens, np.int64)
    shares = np.arange(1, len(self.line_starts) + 1) / len(self.line_starts)
    jumps[list(self.line_starts)] = np.diff(np.floor((span - self.num_tokens) * shares), prepend=0)
    return (np.arange(self.num_tokens) + np.cumsum(jumps)).astype(np.int32)
