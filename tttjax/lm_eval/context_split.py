"""Where the context of a plain request ends, and the question about it begins."""

from collections.abc import Sequence
import dataclasses

from tttjax.errors import UserError

WHOLE = "whole"
_ESCAPES = {r"\n": "\n", r"\t": "\t"}


@dataclasses.dataclass(frozen=True)
class ContextSplit:
  """A rule by which the text of a request is cut; the context is what is read and adapted to.

  Attributes:
    last: characters at the end that are the question; 0 makes all of the text context.
    separator: text whose last occurrence begins the question, instead of `last`. A text without it
      has no context.
  """

  last: int = 0
  separator: str = ""

  @classmethod
  def of(cls, value: str | int) -> "ContextSplit":
    r"""The rule of an argument: 'whole', a number of characters or a separator (\n is a line end).

    Raises:
      UserError: it is none of these.
    """
    if value == WHOLE:
      return cls()
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
      return cls(last=value)
    if not isinstance(value, str) or not value:
      raise UserError(
        f"context_split={value!r}: give {WHOLE}, the question's number of characters, or the text"
        " with which it begins"
      )
    for written, meant in _ESCAPES.items():
      value = value.replace(written, meant)
    return cls(separator=value)

  def characters(self, text: str) -> int:
    """Characters of the text's context."""
    if self.separator:
      return max(text.rfind(self.separator), 0)
    return max(len(text) - self.last, 0)

  def tokens(self, text: str, ends: Sequence[int]) -> int:
    """Tokens of the text's context: those that end within it.

    One token at least is left to the question: what follows is predicted from it, with the adapted
    weights.

    Args:
      ends: where each token of the text ends, in characters.
    """
    limit = self.characters(text)
    inside = next((i for i, end in enumerate(ends) if end > limit), len(ends))
    return max(min(inside, len(ends) - 1), 0)
