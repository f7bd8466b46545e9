"""The answer in what a model wrote: one rule for the scores of every task.

Thoughts, up to the last `</think>`, and whatever follows the end of the turn are not read. Then:

1. After the last `Final:` (also `Final answer`, a heading `Final Answer`, `\\boxed{`) the first
   answer counts; what is said after it does not. Nothing there is no answer. A `Final:` with which
   the output breaks off is passed over where there is an earlier one.
2. Without one the same holds after `Answer:` or `the answer is`, if an answer follows it.
3. Otherwise the output must state one answer, perhaps repeatedly, or begin with it.

In all three, answers that are joined are alternatives, a range or a change ('340 or 350', '340,
could be 350', '340-350', '350 -> 340'): different ones are no answer, for a change does not say
which side is meant. What is said not to be the answer ('not 350') or to have been it before ('340,
up from 330') does not count.

A kind of answer gives the finder of its mentions in a text (number_answers, log_answers,
place_answers); `read` applies the rule to them.
"""

from collections.abc import Callable, Hashable, Sequence
import re
from typing import NamedTuple
import unicodedata


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


_END_OF_TURN = re.compile(r"<\|(?:im_end|endoftext|eot_id|end)\|>|</s>|<end_of_turn>|<eos>")
_CHAT_TOKEN = re.compile(r"<\|[^<|>\n]*\|>")
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
_CHARACTERS = (
  {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width ASCII
  | dict.fromkeys(map(ord, "\u2212\ufe63\u2010\u2011\u2012"), "-")
  | dict.fromkeys(map(ord, "\u2236\ufe55\ufe13\ua789"), ":")
  | dict.fromkeys(map(ord, _INVISIBLE))
)
_LATEX = (
  (re.compile(r"\\(?:text|textbf|texttt|mathrm|mathbf|mathtt)\s*(?=\{)"), ""),
  (re.compile(r"\{,\}"), ","),
  (re.compile(r"\\[,;! ](?=\d)"), "\u2009"),
  (re.compile(r"\\([_*#$%&{}<>\-\[\]])"), r"\1"),  # also Markdown's escapes
)

_NOUN = r"(?:answer|balance|amount|result|response|verdict)"
_FINAL = re.compile(
  rf"(?<![^\W_])final(?:[\W_]{{1,3}}{_NOUN})?(?: (?:of|for)(?: \w+){{1,4}})?[^a-z0-9\n:]{{0,6}}:"
  rf"|^[^a-z0-9\n]*final(?:[\W_]{{1,3}}{_NOUN})?[^a-z0-9\n]*$"  # a heading
  r"|\\boxed\s*\{",
  re.IGNORECASE | re.MULTILINE,
)
_ANSWER = re.compile(r"(?<![^\W_])answer(?:[^a-z0-9\n:]{0,6}:|\s+is\b)", re.IGNORECASE)

_NEGATION = re.compile(
  r"(?:\b(?:not|instead\s+of|rather\s+than)|[,;(]\s*(?:previously|formerly|(?:up|down)\s+from)"
  r"|\(\s*(?:it\s+)?was)\s+[^\w\s]*\Z",
  re.IGNORECASE,
)
_HEDGES = frozenset(
  "or maybe perhaps possibly probably likely potentially alternatively could might may can".split()
)
_JOINERS = _HEDGES | frozenset(
  "and to through even also again either else otherwise vs versus minus plus".split()
)
_BESIDE_HEDGES = _JOINERS | frozenset("but it be is more rather not sure unsure".split())
_TIGHT = (*"-/&,.", "\u2013")
_NEXT_NUMBER = re.compile(
  r"(?P<gap>[^\w\n][^\d\n]{0,30}?)(?:lines?[^\S\n]+|L)?\d+(?P<told>\s+[^\W\d])?", re.IGNORECASE
)
_NEAR = 24  # characters between the parts of one answer


def clean(text: str) -> str:
  """An output without thoughts and chat tokens, its full-width characters and escapes resolved."""
  text = _END_OF_TURN.split(text, maxsplit=1)[0]
  text = text.rpartition("</think>")[2].partition("<think>")[0]
  text = _CHAT_TOKEN.sub(" ", text).translate(_CHARACTERS)
  text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
  for pattern, plain in _LATEX:
    text = pattern.sub(plain, text)
  return text


def read(
  text: str, find: Callable[[str], Sequence[Mention]], kinds: Sequence[str] = ("",)
) -> tuple[set, ...]:
  """The answer of a cleaned output, each of its parts by the rule above.

  Args:
    text: of `clean`.
    find: gives the mentions in a text, in their order.
    kinds: the parts of an answer.

  Returns:
    For each kind the values that count, without repetition: one is an answer, none or several are
    not.
  """
  for passage, announced in _passages(text):
    mentions = [m for m in find(passage) if not _negated(passage, m)]
    if mentions:
      counted = _counted(passage, mentions, announced, kinds)
      return tuple({m.value for m in counted if m.kind == kind} for kind in kinds)
  return tuple(set() for _ in kinds)


def goes_on(text: str, end: int, listed: bool = True) -> bool:
  """Whether a bare number is joined to the answer that ends there: 'line 12-14', 'TX12 or 13'.

  Beside words only one of which nothing is said: not in 'line 12 - 1 should be 2'.

  Args:
    listed: whether a bare comma joins too, for numbers that say nothing else: 'line 12, 13'.
  """
  following = _NEXT_NUMBER.match(text, end)
  if following is None:
    return False
  gap = following["gap"]
  return gap in _TIGHT or _joined(gap) and (_says(gap) or listed and not following["told"])


def only(values: set):
  """The one value, or None."""
  return next(iter(values)) if len(values) == 1 else None


def _passages(text: str) -> tuple[tuple[str, bool], ...]:
  """Where to look for the answer, in turn: (passage, whether an answer is announced there)."""
  if _FINAL.search(text):
    return ((_after_last(_FINAL, text), True),)
  if _ANSWER.search(text):
    return (_after_last(_ANSWER, text), True), (text, False)
  return ((text, False),)


def _after_last(marker: re.Pattern, text: str) -> str:
  """What follows the last marker that anything follows."""
  ends = [match.end() for match in marker.finditer(text)]
  return next((text[end:] for end in reversed(ends) if _says(text[end:])), "")


def _counted(
  passage: str, mentions: list[Mention], announced: bool, kinds: Sequence[str]
) -> list[Mention]:
  """The mentions that are the answer: the first and what is joined to it, or all of them."""
  first = _run(passage, mentions)
  found = {m.kind for m in first}
  opens = not _says(passage[: mentions[0].start]) and len(found) == len(kinds)
  if not announced and not opens:
    return mentions
  for kind in kinds:  # a part that stands elsewhere: 'TX12 breaks a rule, the one of CALC_ERROR'
    if kind not in found:
      first = first + _run(passage, [m for m in mentions if m.kind == kind])
  return first


def _run(passage: str, mentions: list[Mention]) -> list[Mention]:
  """The first mention and those joined to it."""
  if not mentions:
    return []
  kinds, end = {mentions[0].kind}, mentions[0].end
  rest = _without(passage, mentions)
  for i, mention in enumerate(mentions[1:], start=1):
    gap = passage[end : mention.start]
    if mention.kind not in kinds and len(gap) <= _NEAR and not re.search(r"[.!?\n]", gap):
      kinds.add(mention.kind)
    elif not (_joined(gap) or _asked(passage, gap, mention)) and (
      "\n" not in gap or _says(gap) or _says(_line(rest, mention))
    ):
      return mentions[:i]
    end = mention.end
  return mentions


def _negated(passage: str, mention: Mention) -> bool:
  return bool(_NEGATION.search(passage[max(0, mention.start - 40) : mention.start]))


def _joined(gap: str) -> bool:
  """Whether two answers with this text between them are alternatives, a range or a change."""
  if re.search(r"[.!\n]", gap):
    return False
  words = re.findall(r"[^\W_]+", gap.lower())
  if not words:
    return not re.search(r"[:=(\u2014]", gap)
  hedged = not _HEDGES.isdisjoint(words)
  return (_BESIDE_HEDGES if hedged else _JOINERS).issuperset(words)


def _asked(passage: str, gap: str, mention: Mention) -> bool:
  """Whether an answer is an alternative to the one before it: '340 (350?)'."""
  return gap.strip() == "(" and passage.startswith("?", mention.end)


def _says(text: str) -> bool:
  """Whether a text has a letter or a digit."""
  return bool(re.search(r"[^\W_]", text))


def _without(text: str, mentions: Sequence[Mention]) -> str:
  """A text with spaces in place of its mentions."""
  parts, end = [], 0
  for mention in mentions:
    parts += [text[end : mention.start], " " * (mention.end - mention.start)]
    end = mention.end
  return "".join(parts) + text[end:]


def _line(text: str, mention: Mention) -> str:
  """The line that a mention stands on."""
  end = text.find("\n", mention.end)
  return text[text.rfind("\n", 0, mention.start) + 1 : end if end >= 0 else None]
