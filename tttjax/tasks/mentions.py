"""Answers, or parts of one, where an output mentions them."""

from collections.abc import Hashable, Sequence
import re
from typing import NamedTuple


class Mention(NamedTuple):
  """An answer, or a part of one, that a text mentions.

  Attributes:
    start: index of its first character.
    end: index after its last one.
    value: what it says, in one canonical form; None where it is ambiguous or malformed.
    kind: which part of an answer it is, where answers have several parts.
  """

  start: int
  end: int
  value: Hashable
  kind: str = ""


CLAUSE = 80  # characters before an answer in which it is denied


def says(text: str) -> bool:
  """Whether a text has a letter or a digit."""
  return bool(re.search(r"[^\W_]", text))


def without(text: str, mentions: Sequence[Mention]) -> str:
  """A text with spaces in place of its mentions."""
  parts, end = [], 0
  for mention in mentions:
    parts += [text[end : mention.start], " " * (mention.end - mention.start)]
    end = mention.end
  return "".join(parts) + text[end:]
