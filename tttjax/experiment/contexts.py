"""Where the contexts of a task come from: made at any length, or read from files."""

from collections.abc import Mapping
import dataclasses
from typing import Protocol

from tttjax.errors import UserError
from tttjax.files import user_path
from tttjax.tasks.example import Example, Question
from tttjax.tasks.protocol import Documents, SyntheticTask, Task, reads_documents

# Contexts of different seeds are different as long as there are no more per length and seed.
MOST_CONTEXTS = 100_000
_SEED_STRIDE = MOST_CONTEXTS + 3  # with room for the last one's control
_CHARACTERS_PER_TOKEN = 4  # about, where no tokenizer has been asked


class Contexts(Protocol):
  """The contexts of one task.

  Attributes:
    any_length: whether a context may be shorter than the length that it was asked for by far.
    most_questions: of one context.
    answer_tokens: longest answer, thoughts not counted.
    files: SHA-256 of what they are read from, by name.
  """

  any_length: bool
  most_questions: int
  answer_tokens: int
  files: Mapping[str, str]

  def number(self, wanted: int) -> int:
    """How many there are, of so many that are wanted."""

  def other(self, context: int) -> int | None:
    """Which one is the control's of `context`; None without another one."""

  def typical(self, length: int) -> int:
    """About how many tokens (or units) a context has that may have `length`."""

  def at(self, seed: int, context: int, length: int, tokenizer) -> Example:
    """Makes or reads context number `context`.

    Raises:
      UserError: it cannot be made.
    """


@dataclasses.dataclass(frozen=True)
class Made:
  """Contexts of a synthetic task."""

  task: SyntheticTask
  in_tokens: bool

  any_length = False

  @property
  def files(self) -> Mapping[str, str]:
    return {}

  @property
  def most_questions(self) -> int:
    return self.task.most_questions

  @property
  def answer_tokens(self) -> int:
    return self.task.answer_tokens

  def number(self, wanted: int) -> int:
    return wanted

  def other(self, context: int) -> int | None:
    return context + 1  # whether or not the run asks about it

  def typical(self, length: int) -> int:
    return length

  def at(self, seed: int, context: int, length: int, tokenizer) -> Example:
    # Seeds are those of (seed, context): the same needles in haystacks that grow.
    return self.task.at(seed * _SEED_STRIDE + context, length, tokenizer, self.in_tokens)


@dataclasses.dataclass(frozen=True)
class Read:
  """Contexts of a task that has documents; lengths are limits, and every seed has the same ones."""

  documents: Documents
  longest_answer: int | None = None  # where it is less than what a question allows

  any_length = True

  @property
  def files(self) -> Mapping[str, str]:
    return self.documents.files

  @property
  def most_questions(self) -> int:
    return self.documents.most_questions

  @property
  def answer_tokens(self) -> int:
    return self._at_most(self.documents.answer_tokens)

  def number(self, wanted: int) -> int:
    return min(wanted, self.documents.size)

  def other(self, context: int) -> int | None:
    return (context + 1) % self.documents.size if self.documents.size > 1 else None

  def typical(self, length: int) -> int:
    return max(min(length, self.documents.characters // _CHARACTERS_PER_TOKEN), 1)

  def at(self, seed: int, context: int, length: int, tokenizer) -> Example:
    example = self.documents.at(context, length, tokenizer)
    return dataclasses.replace(example, questions=tuple(map(self._shortened, example.questions)))

  def _shortened(self, question: Question) -> Question:
    second = question.second
    if second is not None:
      limit = self._at_most(second.max_new_tokens)
      second = dataclasses.replace(second, max_new_tokens=limit)
    limit = self._at_most(question.max_new_tokens)
    return dataclasses.replace(question, max_new_tokens=limit, second=second)

  def _at_most(self, tokens: int) -> int:
    return tokens if self.longest_answer is None else min(tokens, self.longest_answer)


def contexts_of(
  task: Task, data: str, in_tokens: bool, longest_answer: int | None = None
) -> Contexts:
  """The contexts of a task; opens and checks its files.

  Args:
    longest_answer: about documents, tokens; None is as long as the benchmark allows.

  Raises:
    UserError: it reads documents and there are none, or they are not what it reads.
  """
  if not reads_documents(task):
    return Made(task, in_tokens)
  if not in_tokens:
    raise UserError(f"config.unit: {task.name} reads documents, whose length is in tokens")
  if not data:
    raise UserError(f"config.data is empty: {task.name} reads {task.data}; give its path")
  return Read(task.open(user_path(data, "config.data")), longest_answer)
