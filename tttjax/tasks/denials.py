"""Which of the answers that an output mentions it asserts, and which it denies."""

from collections.abc import Sequence
import re

from tttjax.tasks.answer_markers import NOUN
from tttjax.tasks.mentions import CLAUSE, Mention, without

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
  rf"(?:{NOUN}|bug|anomaly|place|location|type|one)\b",
  re.IGNORECASE,
)
_BEFORE = re.compile(
  r"(?:[,;(]\s*(?:previously|formerly|(?:up|down)\s+from)|\(\s*(?:it\s+)?was)\s+[^\w\s]*\Z",
  re.IGNORECASE,
)
_AND_NOT = frozenset("or and either in at on line a an the of".split())


def asserted(passage: str, mentions: Sequence[Mention]) -> list[Mention]:
  """The mentions that are not said not to be the answer."""
  asserted, ends, previous = [], {}, None
  rest = without(passage, mentions)
  for mention in mentions:
    # Each 'not' denies the next mention of a kind only, and what 'or' adds to it.
    start = max(ends.get(mention.kind, 0), mention.start - CLAUSE)
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
    before = passage[max(0, denied.start - CLAUSE) : denied.start]
    if denied.kind == mention.kind:
      return gap.strip() == "," and bool(_NEITHER.search(before))
    return bool(_OPENED.search(before)) and "\n" not in gap
  return _AND_NOT.issuperset(words) and not re.search(r"[.;:!?\n]", gap)
