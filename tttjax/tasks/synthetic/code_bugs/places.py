"""Reads `file:line` out of what a model wrote."""

from collections.abc import Iterable
import re

_PLACE = re.compile(
  r'(?P<path>[\w./\\~-]*\w\.py)[`"\'*]*'
  r"(?:\s*:\s*(?:L|line\s*)?|\s*#L|,?\s+(?:at\s+|on\s+)?line\s+|\s*\(line\s+)"
  r"[`*]*(?P<line>[0-9]+)"
  r"(?P<more>\s*(?:-|–|,|;|/|&|\bto\b|\band\b|\bor\b)\s*(?:lines?\s*)?[0-9]+)?",
  re.IGNORECASE,
)


def parse_place(text: str) -> tuple[str, int] | None:
  """The one place that an output names after its last `Final:`, anywhere where it has none.

  Accepts `a/b.py:12`, `b.py line 12`, `b.py, line 12`, `b.py#L12`, in quotes or bold, and the same
  place named again. Several places, or a range of lines, are no answer.

  Returns:
    (path with `/`, 1-based line), or None.
  """
  text = re.split(r"final\W*:", text, flags=re.IGNORECASE)[-1]
  places = set()
  for match in _PLACE.finditer(text):
    if match["more"]:
      return None
    path = match["path"].replace("\\", "/").lower()
    while path.startswith("./"):
      path = path[2:]
    places.add((path.lstrip("/"), int(match["line"])))
  if len({line for _, line in places}) != 1:
    return None
  # `model.py` beside `olmo/model.py` names the same file again.
  paths = sorted((path for path, _ in places), key=len)
  if not all(ends_with(paths[-1], path) for path in paths):
    return None
  return paths[-1], places.pop()[1]


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
