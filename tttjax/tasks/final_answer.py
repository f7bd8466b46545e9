"""The answer in what a model wrote: one rule for the scores of every task.

Thoughts, up to the last `</think>`, whatever follows the end of the turn or a header of the prompt
with which a model goes on, and what is struck out are not read. Then:

1. After the last `Final:` (also `Final answer`, a heading `Final Answer`, `\\boxed{`) the first
   answer counts; what is said after it does not. Nothing there is no answer. A `Final:` with which
   the output breaks off is passed over where there is an earlier one.
2. Without one the same holds after `Answer:` or `the answer is`, if an answer follows it.
3. Otherwise the output must state one answer, perhaps repeatedly, or begin with it.

In all three, answers that are joined are alternatives, a range, a change or the items of a list
('340 or 350', '340, could be 350', '340-350', '350 -> 340', two boxes): different ones are no
answer, for a change does not say which side is meant. What is said not to be the answer ('the
balance isn't 350') or to have been it before ('340, up from 330') does not count.

A kind of answer gives the finder of its mentions in a text (number_answers, log_answers,
place_answers); `read` applies the rule to them.
"""

from collections.abc import Callable, Sequence
import re

from tttjax.tasks.answer_markers import ANSWER, BOX, FINAL
from tttjax.tasks.cleaned_output import ARROW, BULLET
from tttjax.tasks.denials import asserted
from tttjax.tasks.mentions import CLAUSE, Mention, says, without

_INLINE_ITEM = re.compile(r"(?<=\s)\(?(?:\d{1,2}[.)]|[b-h]\))\s")
_LIST_LINE = re.compile(rf"[^\S\n>]*[-*+{BULLET}][^\S\n]")


_OBJECTS = re.compile(r"\}\s*,?\s*\{\s*\"")  # the next object of a JSON list
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
_SPAN_SIGNS = frozenset(f"-\u2013\u2014/&~+{ARROW}")
_NEAR = 24  # characters between the parts of one answer


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
  for passage, announced in _passages(text, find):
    mentions = asserted(passage, find(passage))
    if mentions:
      counted = _counted(passage, mentions, announced, kinds)
      return tuple({m.value for m in counted if m.kind == kind} for kind in kinds)
  return tuple(set() for _ in kinds)


def goes_on(text: str, end: int, listed: bool = True) -> bool:
  """Whether a bare number is joined to the answer that ends there: 'line 12-14', 'TX12 or 13'.

  Beside words only one of which nothing is said: not in 'line 12 - 1 should be 2'.

  Args:
    listed: whether any sign joins, also a comma, for numbers that say nothing else: 'line 12, 13'.
      Otherwise those of ranges and changes do: 'TX12 - 13', not 'TX12, 35'.
  """
  following = _NEXT_NUMBER.match(text, end)
  if following is None:
    return False
  gap = following["gap"]
  if gap in _TIGHT or _joined(gap) and says(gap):
    return True
  signs = set("".join(gap.split()))
  return not following["told"] and (_joined(gap) if listed else signs <= _SPAN_SIGNS and any(signs))


def only(values: set):
  """The one value, or None."""
  return next(iter(values)) if len(values) == 1 else None


def _passages(text: str, find: Callable[[str], Sequence[Mention]]) -> tuple[tuple[str, bool], ...]:
  """Where to look for the answer, in turn: (passage, whether an answer is announced there)."""
  if FINAL.search(text):
    match = _last(FINAL, text)
    if match is None:
      return (("", True),)
    return ((FINAL.sub("", text[_first_alternative(text, match, find) :]), True),)
  if ANSWER.search(text):
    match = _last(ANSWER, text)
    return (text[match.end() :] if match else "", True), (text, False)
  return ((text, False),)


def _last(marker: re.Pattern, text: str) -> re.Match | None:
  """The last marker that anything follows."""
  matches = list(marker.finditer(text))
  return next((match for match in reversed(matches) if says(text[match.end() :])), None)


def _first_alternative(
  text: str, marker: re.Match, find: Callable[[str], Sequence[Mention]]
) -> int:
  """Where the answers begin that the one after the last marker is an alternative to, on its line.

  Those in boxes beside its box, and others before an 'or': '340 or \\boxed{350}'. What it is
  derived from is none: '350 - 10 = \\boxed{340}'.
  """
  line = text.rfind("\n", 0, marker.start()) + 1
  mentions = find(text[line:])
  starts = [m.start + line for m in mentions]
  ends = [m.end + line for m in mentions]
  at = next((i for i, start in enumerate(starts) if start >= marker.end()), 0)
  first = marker.end()
  while at > 0:
    gap = text[ends[at - 1] : starts[at]]
    bare = FINAL.sub("", gap)
    beside = first != marker.end() or "}" in gap and BOX in gap
    hedged = not _HEDGES.isdisjoint(re.findall(r"[^\W_]+", bare.lower()))
    if not _joined(bare) or not (beside or hedged or BOX in marker[0] and says(bare)):
      break
    at -= 1
    first = starts[at]
  return first


def _counted(
  passage: str, mentions: list[Mention], announced: bool, kinds: Sequence[str]
) -> list[Mention]:
  """The mentions that are the answer: the first and what is joined to it, or all of them."""
  first = _run(passage, mentions)
  found = {m.kind for m in first}
  opens = not says(passage[: mentions[0].start]) and len(found) == len(kinds)
  if not announced and not opens:
    return mentions
  for kind in kinds:  # a part that stands elsewhere: 'TX12 breaks a rule, the one of CALC_ERROR'
    if kind not in found:
      first = first + _run(passage, [m for m in mentions if m.kind == kind])
  return first


def _run(passage: str, mentions: list[Mention]) -> list[Mention]:
  """The first mention and those joined to it, or that begin items of the same list."""
  if not mentions:
    return []
  rest = without(passage, mentions)
  size = _group(passage, rest, mentions, 0)
  run, label = mentions[:size], _label(rest, mentions[0])
  while label is not None and size < len(mentions):
    mention = mentions[size]
    if mention.kind == run[0].kind and label == _label(rest, mention):
      end = _group(passage, rest, mentions, size)
      run, size = run + mentions[size:end], end
    else:
      size += 1
  return run


def _group(passage: str, rest: str, mentions: list[Mention], first: int) -> int:
  """The index after the last of the mentions that are joined to one."""
  kinds, end = {mentions[first].kind}, mentions[first].end
  for i in range(first + 1, len(mentions)):
    mention = mentions[i]
    gap = passage[end : mention.start]
    if mention.kind not in kinds and len(gap) <= _NEAR and not re.search(r"[.!?\n]", gap):
      kinds.add(mention.kind)
    elif (
      _joined(gap)
      or _asked(passage, gap, mention)
      or _OBJECTS.search(gap)
      or ("\n" in gap and not says(gap) and not says(_line(rest, mention)))
    ):
      kinds = {mention.kind}  # with another answer comes its other part
    else:
      return i
    end = mention.end
  return len(mentions)


def _label(rest: str, mention: Mention) -> tuple[str, ...] | None:
  """The bullet and words before a mention in an item of a list, None where it is in none."""
  line = rest.rfind("\n", 0, mention.start) + 1
  before = rest[max(line, mention.start - CLAUSE) : mention.start]
  bullet = _LIST_LINE.match(before)
  if bullet is None or "  " in before.strip():  # the second part of an answer begins no item
    return None
  # The items of a list within an item are indented.
  indented = bullet[0] if line else bullet[0].lstrip()
  return indented, *re.findall(r"[^\W_]+", before.lower())


def _joined(gap: str) -> bool:
  """Whether two answers with this text between them are alternatives, a range or a change."""
  gap = _INLINE_ITEM.sub("", gap)
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


def _line(text: str, mention: Mention) -> str:
  """The line that a mention stands on."""
  end = text.find("\n", mention.end)
  return text[text.rfind("\n", 0, mention.start) + 1 : end if end >= 0 else None]
