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

from collections.abc import Callable, Hashable, Sequence
import html
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
# With these the next turn begins, or a base model goes on with the prompt: not its answer.
_NEXT_TURN = re.compile(
  r"(?:<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>)\s*(?:system|user|assistant|model\b)?"
  r"|<\|(?:system|user|assistant)\|>|\[/?INST\]"
  r"|^[\s#*]{0,6}\[(?:SYSTEM|TASK|CONTEXT|QUESTION|ANSWER)\](?! [a-z])|^(?:Human|User):",
  re.MULTILINE,
)
_OTHERS = re.compile(r"system|user|human|task|context|question|\[INST", re.IGNORECASE)
# `<s>` and `</s>` also are tokens around a whole output: a tag strikes out a part of one.
_STRUCK = re.compile(
  r"<(del|strike)>(?:(?!</?\1>)[^\n]){0,200}</\1>|~~[^~\n]{1,200}~~"
  r"|(?<=[^\s>])(?P<space>[^\S\n]?)<s>(?:(?!</?s>)[^\n]){0,200}</s>"
  r"|<s>(?:(?!</?s>)[^\n]){0,200}</s>(?=[^\S\n]{0,4}[^\s<])",
  re.IGNORECASE,
)
_ENTITY = re.compile(r"&#?\w{1,10};")
_ATTRIBUTES = r"(?:\s[^<>\n]{0,200})?/?>"
_TAGS = (
  (re.compile(rf"</?(?:br|p|div|li|[uo]l|tr|table|h[1-6]|pre|hr){_ATTRIBUTES}", re.I), "\n"),
  (re.compile(rf"</?t[dh]{_ATTRIBUTES}", re.I), "|"),
  (
    re.compile(
      rf"</?(?:[biu]|em|strong|span|code|su[bp]|mark|font|big|small|ins){_ATTRIBUTES}", re.I
    ),
    "",
  ),
)
_ARROW = "\u2192"
_ARROWS = (
  (re.compile(r"\\(?:long)?(?:rightarrow|mapsto)(?![a-z])|\\to(?![a-z])", re.I), _ARROW),
  (re.compile(r"(?<![<=-])[-=]{1,9}>"), _ARROW),
  # 340..350 and 340 .. 350, but not: 340... It was 350 before
  (re.compile(r"(?<=\d)([^\S\n]?)(?:\.{2,9}|\u2026)\1(?=[^\s.])"), _ARROW),
)
_BULLET = "\u2022"
# The numbers of a list's items.
_ITEM = re.compile(
  r"^[^\S\n]*[*_(]{0,3}(?:(?P<line>\d{1,2})[.):]|(?P<letter>[a-h])\))[*_]{0,2}[^\S\n]+(?=[^\n]*\d)"
  r"|(?<=:)[^\S\n]*\(?(?P<passage>\d{1,2})\)[^\S\n]+(?=[^\w\n]*\w)",
  re.MULTILINE,
)
_INLINE_ITEM = re.compile(r"(?<=\s)\(?(?:\d{1,2}[.)]|[b-h]\))\s")
_LIST_LINE = re.compile(rf"[^\S\n>]*[-*+{_BULLET}][^\S\n]")
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
_BOX = r"\boxed"
_ANSWER = re.compile(r"(?<![^\W_])answer(?:[^a-z0-9\n:]{0,6}:|\s+is\b)", re.IGNORECASE)

_NOT = (
  r"(?:\b(?:not|cannot|never|no\s+longer|neither|nor|instead\s+of|rather\s+than)\b|n['\u2019]t\b"
  r"|\u2260|!=)"
)
# What may stand between 'not' and what it denies. Other words are a reason, which often is that
# something is not so: 'the balance is not carried on in TX12' states TX12.
_DENIABLE = (
  r"(?:an?|the|be|been|is|was|are|it|its|that|this|there|at|in|on|of|to|by|with|for|n|[a-z]\d\d"
  r"|lines?|file|path|number|account|transaction|txn?|id|dollars|answer|result|final|new|old|sum"
  r"|(?:balance|amount|value)(?!\s+(?:in|at|on|after|with)\b)"
  r"|bug|error|anomaly|type|kind|place|location|fault|mistake|problem|issue|have|has|had|contain"
  r"|hold|located|found|placed|caused|due|because|occurs?|lies?|happens?|resides?|appears?|going"
  r"|really|actually|quite|likely|even|necessarily|currently|now|yet|simply|exactly|either|think|believe|mean|case)"
)
_DENIED = re.compile(
  rf"{_NOT}(?:[*_`\"'{{\[\s$]+(?:{_DENIABLE}\b|\Z))*(?:\s+equals?(?:\s+to)?\b)?[^\w,;:.!?\n()]*\Z"
  r"|\bnot\s+(?-i:[A-Z])\w*\s*:\W*\Z"  # not A12: 350
  r"|\bno\s+(?:bugs?|errors?|anomal(?:y|ies)|problems?|issues?|mistakes?)\s+"
  r"(?:(?:in|at|on|with|of)\s+)?(?:the\s+)?[^\w\s]*\Z",
  re.IGNORECASE,
)
_NO = re.compile(r"\bno\s+[^\w\s]*\Z", re.IGNORECASE)
_NEITHER = re.compile(r"\bneither\b[^.;:!?\n]*\Z", re.IGNORECASE)
_OPENED = re.compile(rf"{_NOT}\s+[^\w\s]*[{{(\[][^\w\s]*\Z", re.IGNORECASE)
_DENIED_AFTER = re.compile(
  r"[^\w\s]{0,4}\s+(?:is|was|does)(?:n['\u2019]t|\s+not)\s+(?:(?:have|contain|hold|where)\s+)?"
  r"the\s+(?:right\s+|correct\s+)?"
  rf"(?:{_NOUN}|bug|anomaly|place|location|type|one)\b",
  re.IGNORECASE,
)
_BEFORE = re.compile(
  r"(?:[,;(]\s*(?:previously|formerly|(?:up|down)\s+from)|\(\s*(?:it\s+)?was)\s+[^\w\s]*\Z",
  re.IGNORECASE,
)
_AND_NOT = frozenset("or and either in at on line a an the of".split())
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
_SPAN_SIGNS = frozenset(f"-\u2013\u2014/&~+{_ARROW}")
_NEAR = 24  # characters between the parts of one answer
_CLAUSE = 80  # characters before an answer in which it is denied


def clean(text: str) -> str:
  """An output without thoughts and chat tokens, its full-width characters and escapes resolved."""
  text = _STRUCK.sub(lambda match: match["space"] or "", text)
  text = _END_OF_TURN.split(text, maxsplit=1)[0]
  text = text.rpartition("</think>")[2].partition("<think>")[0]
  text = _ENTITY.sub(lambda match: html.unescape(match[0]), _own_turn(text))
  for pattern, plain in _TAGS:
    text = pattern.sub(plain, text)
  text = _CHAT_TOKEN.sub(" ", text).translate(_CHARACTERS)
  text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
  for pattern, plain in (*_ARROWS, *_LATEX):
    text = pattern.sub(plain, text)
  return text


def bulleted(text: str) -> str:
  """A text with bullets in place of what counts lines from 1, or a, at their start."""
  wanted = 1

  def bullet(match: re.Match) -> str:
    nonlocal wanted
    letter = match["letter"]
    item = ord(letter) - ord("a") + 1 if letter else int(match["line"] or match["passage"])
    if item not in (1, wanted):
      return match[0]
    wanted = item + 1
    return " " if match["passage"] else f"{_BULLET} "

  return _ITEM.sub(bullet, text)


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
    mentions = _asserted(passage, find(passage))
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
  if gap in _TIGHT or _joined(gap) and _says(gap):
    return True
  signs = set("".join(gap.split()))
  return not following["told"] and (_joined(gap) if listed else signs <= _SPAN_SIGNS and any(signs))


def only(values: set):
  """The one value, or None."""
  return next(iter(values)) if len(values) == 1 else None


def _own_turn(text: str) -> str:
  """A text up to the next turn or header of the prompt, but for those that open it as an answer."""
  start = 0
  for match in _NEXT_TURN.finditer(text):
    if _says(_FINAL.sub("", text[start : match.start()])) or _OTHERS.search(match[0]):
      return text[start : match.start()]
    start = match.end()
  return text[start:]


def _passages(text: str, find: Callable[[str], Sequence[Mention]]) -> tuple[tuple[str, bool], ...]:
  """Where to look for the answer, in turn: (passage, whether an answer is announced there)."""
  if _FINAL.search(text):
    match = _last(_FINAL, text)
    if match is None:
      return (("", True),)
    return ((_FINAL.sub("", text[_first_alternative(text, match, find) :]), True),)
  if _ANSWER.search(text):
    match = _last(_ANSWER, text)
    return (text[match.end() :] if match else "", True), (text, False)
  return ((text, False),)


def _last(marker: re.Pattern, text: str) -> re.Match | None:
  """The last marker that anything follows."""
  matches = list(marker.finditer(text))
  return next((match for match in reversed(matches) if _says(text[match.end() :])), None)


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
    bare = _FINAL.sub("", gap)
    beside = first != marker.end() or "}" in gap and _BOX in gap
    hedged = not _HEDGES.isdisjoint(re.findall(r"[^\W_]+", bare.lower()))
    if not _joined(bare) or not (beside or hedged or _BOX in marker[0] and _says(bare)):
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
  opens = not _says(passage[: mentions[0].start]) and len(found) == len(kinds)
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
  rest = _without(passage, mentions)
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
      or ("\n" in gap and not _says(gap) and not _says(_line(rest, mention)))
    ):
      kinds = {mention.kind}  # with another answer comes its other part
    else:
      return i
    end = mention.end
  return len(mentions)


def _label(rest: str, mention: Mention) -> tuple[str, ...] | None:
  """The bullet and words before a mention in an item of a list, None where it is in none."""
  line = rest.rfind("\n", 0, mention.start) + 1
  before = rest[max(line, mention.start - _CLAUSE) : mention.start]
  bullet = _LIST_LINE.match(before)
  if bullet is None or "  " in before.strip():  # the second part of an answer begins no item
    return None
  # The items of a list within an item are indented.
  indented = bullet[0] if line else bullet[0].lstrip()
  return indented, *re.findall(r"[^\W_]+", before.lower())


def _asserted(passage: str, mentions: Sequence[Mention]) -> list[Mention]:
  """The mentions that are not said not to be the answer."""
  asserted, ends, previous = [], {}, None
  rest = _without(passage, mentions)
  for mention in mentions:
    # Each 'not' denies the next mention of a kind only, and what 'or' adds to it.
    start = max(ends.get(mention.kind, 0), mention.start - _CLAUSE)
    before = rest[start : mention.start]
    denied = (
      _DENIED.search(before)
      or _BEFORE.search(before)
      or _NO.search(before)
      and not re.search(r"\d", passage[mention.start : mention.end])
      or _DENIED_AFTER.match(passage, mention.end)
      or previous
      and _denied_too(passage, previous, mention)
    )
    ends[mention.kind] = mention.end
    previous = mention if denied else None
    if not denied:
      asserted.append(mention)
  return asserted


def _denied_too(passage: str, denied: Mention, mention: Mention) -> bool:
  """Whether what denies a mention denies the next one: 'not 350 or 360', 'not {X, TX12}'."""
  gap = passage[denied.end : mention.start]
  words = re.findall(r"[^\W_]+", gap.lower())
  if not words:
    before = passage[max(0, denied.start - _CLAUSE) : denied.start]
    if denied.kind == mention.kind:
      return gap.strip() == "," and bool(_NEITHER.search(before))
    return bool(_OPENED.search(before)) and "\n" not in gap
  return _AND_NOT.issuperset(words) and not re.search(r"[.;:!?\n]", gap)


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
