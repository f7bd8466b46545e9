"""Reads `file:line` out of what a model wrote."""

from collections.abc import Iterable
import re

from tttjax.tasks.cleaned_output import bulleted, clean
from tttjax.tasks.final_answer import goes_on, read
from tttjax.tasks.mentions import Mention

_PATH = r"(?P<path{0}>[\w./\\~-]{{0,300}}\w\.py)(?!\w)"
_LINE = r"(?P<line{0}>\d{{1,3}}(?:,\d{{3}}){{1,3}}(?!\d)|\d{{1,9}})(?![\d]|\.\d)"
_FILLER = r"(?![.!?;])[\W_](?:(?!\bnot\b|n't\b)[^\d.!?;]){0,60}?"
_WORD = r"(?<![^\W_])(?:line(?:[\s_]*(?:number|no))?|L)"
# a.py:12, a.py#L12, a.py(12), | a.py | 12 |, "file": "a.py", "line": 12; a.py has the bug on line
# 12, but not: a.py calls line 12 of b.py
_PATH_FIRST = (
  r"(?<![\w./\\~-])"
  + _PATH.format(1)
  + rf"(?:(?:[\W_]{{0,12}}|{_FILLER}){_WORD}[\W_]{{0,8}}"
  + r"(?!\d+\W{0,8}(?:of|in|from)\b[^\n.]{0,40}\.py)"
  + r"|[`\"'*\])]*\s*(?::{1,2}\s*[`*]*|[#(\[]\s*|\|\s*[`*]*(?=\d+[`*\s]*\|)))"
  + _LINE.format(1)
)
# line 12 of the file a.py, "line": 12, "file": "a.py"
_LINE_FIRST = (
  rf"{_WORD}[\W_]{{0,8}}{_LINE.format(2)}[\W_]{{0,8}}?(?:(?:of|in|from)\s+)?(?:the\s+)?"
  r"(?:(?:file|path|module)(?:_?name)?[\W_]{1,6}?)?[\W_]{0,2}?" + _PATH.format(2)
)
_START, _END = r"(?:start|begin|first|from)", r"(?:end|stop|last|to)"
_KEY = r"line(?:_?(?:no|number))?"
_AT = r"[\W_]{{1,8}}(?P<{}>\d{{1,9}})(?!\d)[\"']?"
_FROM = rf"(?<![^\W_])(?:(?:{_START}[\W_]{{0,6}})?{_KEY}|line_?{_START})"
_TO = rf"(?<![^\W_])(?:{_END}[\W_]{{0,6}}{_KEY}|line_?{_END})"
# "start_line": 12, "end_line": 14, either first
_LINES = re.compile(
  rf"{_FROM}{_AT.format('from1')}[^{{}}]{{0,60}}?\}}?[^{{}}]{{0,8}}?{_TO}{_AT.format('to1')}"
  rf"|{_TO}{_AT.format('to2')}[^{{}}]{{0,60}}?\}}?[^{{}}]{{0,8}}?{_FROM}{_AT.format('from2')}",
  re.IGNORECASE,
)
_PLACE = re.compile(f"{_PATH_FIRST}|{_LINE_FIRST}", re.IGNORECASE)


def parse_place(text: str) -> tuple[str, int] | None:
  """The one place that an output answers with (tttjax.tasks.final_answer).

  Accepts `a/b.py:12`, `b.py line 12`, `b.py#L12`, `b.py(12)`, `line 12 of b.py`, `File: b.py Line:
  12`, `In b.py, the bug is on line 12` and the same as JSON or a row of a table, in quotes or bold,
  and the same place named again. Several places, a range of lines, or a line that becomes another
  one (`b.py:12 -> 13`) are no answer.

  Returns:
    (path with `/`, in lower case, 1-based line), or None.
  """
  text = _LINES.sub(_one_line, bulleted(clean(text)))
  (places,) = read(text, _mentions)
  if None in places or len({line for _, line in places}) != 1:
    return None
  # `model.py` beside `olmo/model.py` names the same file again.
  paths = sorted((path for path, _ in places), key=len)
  if not all(ends_with(paths[-1], path) for path in paths):
    return None
  return paths[-1], next(iter(places))[1]


def _one_line(match: re.Match) -> str:
  """The line with which lines both start and end, as one; else their range."""
  first, last = (match[f"{end}1"] or match[f"{end}2"] for end in ("from", "to"))
  return f"line: {first}" if int(first) == int(last) else f"line: {first}-{last}"


def _mentions(text: str) -> list[Mention]:
  return [Mention(*match.span(), _place(match)) for match in _PLACE.finditer(text)]


def _place(match: re.Match) -> tuple[str, int] | None:
  """(path, line), None where more lines follow."""
  if goes_on(match.string, match.end()):
    return None
  path = (match["path1"] or match["path2"]).replace("\\", "/").lower()
  while path.startswith("./"):
    path = path[2:]
  return path.lstrip("/"), int((match["line1"] or match["line2"]).replace(",", ""))


def ends_with(path: str, end: str) -> bool:
  """Whether `end` is the last components of `path`, whole ones."""
  return path == end or path.endswith("/" + end)


def resolve(path: str, known: Iterable[str]) -> str:
  """The file of a tree that a written path means.

  It is meant where one ends with the other in whole components, and by no other file of the tree:
  `model.py` is `olmo/model.py` unless there is another model.py. Upper and lower case count alike.

  Returns:
    The tree's path, or `path` itself where no file or more than one is meant.
  """
  exact = [name for name in known if name.lower() == path]
  found = exact or [name for name in known if ends_with(name.lower(), path)]
  if not found:  # Longer than the tree's: /home/user/olmo/model.py.
    ends = [name for name in known if ends_with(path, name.lower())]
    found = [max(ends, key=len)] if ends else []
  return found[0] if len(found) == 1 else path
