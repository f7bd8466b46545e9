"""Mutation operators: the registry, the places of a file where they apply, and their edits.

An operator is a generator function of (node, code) that yields edits, each one a replacement of
characters within one line. The modules arithmetic, arrays, calls and control register theirs here.
"""

import ast
from collections.abc import Callable, Iterator
import dataclasses
import inspect
import re

from tttjax.tasks.synthetic.code_bugs.syntax import Code, Position, parse

Edit = tuple[Position, str]  # what is replaced, and by what


@dataclasses.dataclass(frozen=True)
class Operator:
  """One kind of bug.

  Attributes:
    name: identifier.
    doc: what it changes, and where it keeps away.
    symptom: the kind of fault, as the question names it; tells no place and no text.
    before, after: an example, one line each.
    nodes: types of nodes that it looks at.
    find: yields the edits of one node.
  """

  name: str
  doc: str
  symptom: str
  before: str
  after: str
  nodes: tuple[type, ...]
  find: Callable[[ast.AST, Code], Iterator[Edit]]


@dataclasses.dataclass(frozen=True)
class Site:
  """One possible bug of a file: characters [start, end) of a line become `text`.

  Attributes:
    operator: name of its operator.
    line: 1-based number.
    start, end: character offsets within the line.
    text: replacement.
  """

  operator: str
  line: int
  start: int
  end: int
  text: str

  def apply(self, line: str) -> str:
    """The line with the bug."""
    return line[: self.start] + self.text + line[self.end :]


_ASSIGNS_ITSELF = re.compile(r"\s*(\S+) = \(?\1\)?\s*(#.*)?")  # x = x shows at first sight.

OPERATORS: dict[str, Operator] = {}


def operator(*nodes: type, symptom: str, before: str, after: str):
  """Registers the decorated function as an operator under its own name."""

  def register(find):
    OPERATORS[find.__name__] = Operator(
      find.__name__, inspect.getdoc(find), symptom, before, after, nodes, find
    )
    return find

  return register


def find_sites(code: Code) -> list[Site]:
  """All places of one file at which one of the operators makes a bug, in the source's order."""
  interested = {}
  for entry in OPERATORS.values():
    for kind in entry.nodes:
      interested.setdefault(kind, []).append(entry)
  sites = []
  for node in code.mutable_nodes():
    for entry in interested.get(type(node), ()):
      for (line, start, end), text in entry.find(node, code):
        site = Site(entry.name, line, start, end, text)
        if not _ASSIGNS_ITSELF.fullmatch(site.apply(code.lines[line - 1])):
          sites.append(site)
  return sites


def mutate(lines: list[str], site: Site) -> list[str] | None:
  """The lines of a file with the bug; None where the syntax tree would break or not change."""
  mutant = list(lines)
  mutant[site.line - 1] = site.apply(mutant[site.line - 1])
  try:
    changed = parse("\n".join(mutant))
  except SyntaxError:
    return None
  return None if ast.dump(changed) == ast.dump(parse("\n".join(lines))) else mutant
