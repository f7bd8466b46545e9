"""What every task offers to those who run and score it."""

from collections.abc import Mapping
import pathlib
from typing import Any, ClassVar, Protocol, TypeGuard

from tttjax.tasks.example import Example, Question


class Task(Protocol):
  """A source of examples: a frozen dataclass whose fields, all with defaults, are its options.

  A config names it by its registered name and the options that differ from the defaults, such as
  `bank_log(kind=amount)` (tttjax.spec). Options say how reports call them by spec.option.

  Attributes:
    name: how configs and rows name it.
    label: what tables and figures call it.
    description: what is asked and how far a guess gets, in sentences, for the report.

  A class may have `benchmark`, the name of what several families of tasks make up: then those of
  a run are averaged together. And `control`, the name of an option that makes a control of the
  task, which no average counts.
  """

  name: ClassVar[str]
  label: ClassVar[str]
  description: ClassVar[str]

  def extract(self, text: str) -> str | None:
    """The answer in an output in one canonical form, so that equal answers are equal texts."""

  def score(self, text: str, question: Question) -> dict[str, float]:
    """Value in [0, 1] of each of `question.metrics` for one output, its thoughts left out."""


class SyntheticTask(Task, Protocol):
  """A task whose contexts can be made at any length.

  Attributes:
    unit: the paper's unit of length of this task, such as 'operations' or 'lines'.
    most_questions: questions of one context at most.
    answer_tokens: longest answer, thoughts not counted.
  """

  unit: ClassVar[str]
  most_questions: int
  answer_tokens: int

  def check(self, length: int, in_tokens: bool) -> None:
    """Raises UserError for bad options and for a length that holds no example; loads no model."""

  def at(self, seed: int, length: int, tokenizer, in_tokens: bool) -> Example:
    """The example of `seed`: the same needles at every length, in a haystack that grows.

    Args:
      seed: names the example; examples of different seeds are independent.
      length: the context's limit in tokens of `tokenizer`, chat header included, or in `unit`s.
      tokenizer: transformers fast tokenizer.
      in_tokens: how `length` counts.

    Returns:
      The context with all of its questions, the same whatever number of them is asked.
    """


class Documents(Protocol):
  """Contexts that were read from files and checked, without a model.

  Attributes:
    size: contexts, in the order of the files.
    most_questions: of one context.
    answer_tokens: longest answer of any question, thoughts not counted.
    characters: of a context, the mean.
    files: SHA-256 of what was read, by file name.
  """

  size: int
  most_questions: int
  answer_tokens: int
  characters: int
  files: Mapping[str, str]

  def at(self, index: int, limit: int, tokenizer) -> Example:
    """Context `index` with all of its questions.

    Args:
      limit: most tokens of the user's message; a longer one is cut by the task's rule.
      tokenizer: transformers fast tokenizer.

    Raises:
      UserError: the question alone exceeds the limit.
    """


class DocumentTask(Task, Protocol):
  """A task whose contexts are read from files: a benchmark's, or the user's own.

  Attributes:
    data: what the files are, in words, for those who are asked for them.
  """

  data: ClassVar[str]

  def open(self, path: pathlib.Path) -> Documents:
    """Reads and checks the files; loads no model.

    Raises:
      UserError: names the file, the line and the field that are not what they should be.
    """


def reads_documents(task: Any) -> TypeGuard[DocumentTask]:
  """Whether a task, or a class of tasks, reads documents instead of making its contexts."""
  return hasattr(task, "open")
