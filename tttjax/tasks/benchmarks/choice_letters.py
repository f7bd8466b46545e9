"""The letter of the choice that an output answers with.

Of the letters that are choices, written large, those count that stand alone and are not said not to
be the answer ('not (A) but (B)'). Which one it is:

1. the first after the last `Final:`, `Answer:` or `the answer is` that any follows;
2. without one the first in parentheses, `(B)`;
3. without one the first.

`A` and `I` are English words too. With a word in small letters behind it an `A` that begins a
sentence is an article ('A boat') and an `I` a pronoun ('I think'), unless that word is 'is',
'because' or 'since' ('A is right'), or a colon, 'option', 'choice', 'letter' or 'answer is' stands
before it ('option I fits best').
"""

from collections.abc import Iterator
import re
import string

from tttjax.tasks.answer_markers import ANSWER, FINAL
from tttjax.tasks.benchmarks.own_scores import UNSPACED
from tttjax.tasks.cleaned_output import clean
from tttjax.tasks.denials import asserted
from tttjax.tasks.mentions import Mention

MOST_CHOICES = len(string.ascii_uppercase)
_MARKUP = str.maketrans("", "", "*_`")
_LETTER = rf"[^\W{UNSPACED}]"  # of a word that spaces set apart
_WORD_BEHIND = re.compile(r"[ \t]+(?!(?:is|because|since)\b)[a-z]")
_CUE = re.compile(r"(?::|\b(?:option|choice|letter|answer\s+is))[ \t\"'\u201c\u2018]*\Z", re.I)
_SENTENCE_BEGINS = re.compile(r"(?:\A|[.!?\n])[^\w.!?\n]*\Z")
_BEFORE = 40  # characters that are looked at before a letter


def letters(number: int) -> str:
  """The letters of so many choices."""
  return string.ascii_uppercase[:number]


def chosen(text: str, number: int) -> str | None:
  """The letter that an output chooses among so many; None without one."""
  text = clean(text).translate(_MARKUP)
  stated = asserted(text, list(_mentions(text, letters(number))))
  ends = sorted(found.end() for marker in (FINAL, ANSWER) for found in marker.finditer(text))
  for end in reversed(ends):
    if after := [mention for mention in stated if mention.start >= end]:
      return after[0].value
  enclosed = [mention for mention in stated if text[mention.start] == "("]
  return next((mention.value for mention in (*enclosed, *stated)), None)


def _mentions(text: str, allowed: str) -> Iterator[Mention]:
  alone = rf"(?<!{_LETTER})(?<!{_LETTER}-)([{allowed}])(?!['\u2019]|-?{_LETTER})"
  for found in re.finditer(rf"\(([{allowed}])\)|{alone}", text):
    if found[1] or not _is_word(text, found):
      yield Mention(*found.span(), found[1] or found[2])


def _is_word(text: str, found: re.Match) -> bool:
  """Whether the letter is the article A or the pronoun I."""
  if found[2] not in ("A", "I") or not _WORD_BEHIND.match(text, found.end()):
    return False
  before = text[max(0, found.start() - _BEFORE) : found.start()]
  if _CUE.search(before):
    return False
  return found[2] == "I" or bool(_SENTENCE_BEGINS.search(before))
