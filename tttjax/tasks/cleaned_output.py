"""An output as plain text: without thoughts, markup, escapes, and what is not its own turn."""

import html
import re
import unicodedata

from tttjax.tasks.answer_markers import FINAL
from tttjax.tasks.mentions import says

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
ARROW = "\u2192"
_ARROWS = (
  (re.compile(r"\\(?:long)?(?:rightarrow|mapsto)(?![a-z])|\\to(?![a-z])", re.I), ARROW),
  (re.compile(r"(?<![<=-])[-=]{1,9}>"), ARROW),
  # 340..350 and 340 .. 350, but not: 340... It was 350 before
  (re.compile(r"(?<=\d)([^\S\n]?)(?:\.{2,9}|\u2026)\1(?=[^\s.])"), ARROW),
)
BULLET = "\u2022"
# The numbers of a list's items.
_ITEM = re.compile(
  r"^[^\S\n]*[*_(]{0,3}(?:(?P<line>\d{1,2})[.):]|(?P<letter>[a-h])\))[*_]{0,2}[^\S\n]+(?=[^\n]*\d)"
  r"|(?<=:)[^\S\n]*\(?(?P<passage>\d{1,2})\)[^\S\n]+(?=[^\w\n]*\w)",
  re.MULTILINE,
)
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
    return " " if match["passage"] else f"{BULLET} "

  return _ITEM.sub(bullet, text)


def _own_turn(text: str) -> str:
  """A text up to the next turn or header of the prompt, but for those that open it as an answer."""
  start = 0
  for match in _NEXT_TURN.finditer(text):
    if says(FINAL.sub("", text[start : match.start()])) or _OTHERS.search(match[0]):
      return text[start : match.start()]
    start = match.end()
  return text[start:]
