"""What every task offers to the evaluation."""

from typing import ClassVar, Protocol

from tttjax.tasks.example import Example, Question


class Task(Protocol):
  """A source of examples: a frozen dataclass whose fields, all with defaults, are its options.

  A config names it by its registered name and the options that differ from the defaults, such as
  `bank_log(kind=amount)` (tttjax.spec).

  Attributes:
    unit: the paper's unit of length of this task, such as 'operations' or 'lines'.
  """

  unit: ClassVar[str]

  def check(self, length: int, in_tokens: bool) -> None:
    """Raises UserError for bad options and for a length that holds no example; loads no model."""

  def make_example(
    self, seed: int, length: int, tokenizer, num_questions: int, in_tokens: bool
  ) -> Example:
    """The example of `seed`: the same needles at every length, in a haystack that grows.

    Args:
      seed: names the example; examples of different seeds are independent.
      length: the context's limit in tokens of `tokenizer`, chat header included, or in `unit`s.
      tokenizer: transformers fast tokenizer with a chat template.
      num_questions: questions wanted; fewer where the context has no room for them.
      in_tokens: how `length` counts.
    """

  def extract(self, text: str) -> str | None:
    """The answer in an output in one canonical form, so that equal answers are equal texts."""

  def score(self, text: str, question: Question) -> dict[str, float]:
    """Metrics of one output (without its thoughts): 'acc', 0 or 1, and parts such as 'id_acc'."""
