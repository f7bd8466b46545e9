"""A parsed source file, and what the mutation operators ask about its nodes.

Positions are (line, start, end): the 1-based line number, and character offsets within that line.
"""

import ast
from collections.abc import Iterator
import re
import warnings

Position = tuple[int, int, int]

ARRAY_MODULES = frozenset(
  {
    "np",
    "jnp",
    "onp",
    "numpy",
    "torch",
    "lax",
    "tf",
    "math",
    "nn",
    "F",
    "functional",
    "special",
    "scipy",
  }
)
_NUMERIC_CALLS = frozenset({"len", "abs", "float", "int", "sum", "sqrt", "exp", "log"})
_TEXT_CALLS = frozenset(
  {"str", "repr", "join", "format", "list", "tuple", "set", "dict", "keys", "split", "Path"}
)
_TEXT_NAMES = re.compile(
  r"(^|_)(path|dir|directory|file|folder|name|prefix|suffix|text|msg|message|str|string)s?$"
)
_EVEN = re.compile(r"abs|square|norm|cos|sq$")
_ATOMS = (
  ast.Name,
  ast.Attribute,
  ast.Call,
  ast.Subscript,
  ast.Constant,
  ast.List,
  ast.Dict,
  ast.Set,
  ast.Tuple,
  ast.ListComp,
  ast.DictComp,
  ast.SetComp,
)
_MESSAGES = frozenset(
  {
    "print",
    "debug",
    "info",
    "warn",
    "warning",
    "error",
    "exception",
    "critical",
    "log_first_n",
    "cast",
  }
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS = (ast.For, ast.AsyncFor, ast.While)


class Code:
  """One source file.

  Attributes:
    lines: its lines without newlines.
    tree: its module node.
    parent: node to the node that holds it.
    imported: names that import statements bind.
  """

  def __init__(self, text: str):
    self.lines = text.split("\n")
    self.tree = parse(text)
    self.parent = {}
    self.imported = set()
    for node in ast.walk(self.tree):
      for child in ast.iter_child_nodes(node):
        self.parent[child] = node
      if isinstance(node, (ast.Import, ast.ImportFrom)):
        self.imported.update((a.asname or a.name).partition(".")[0] for a in node.names)

  def _character(self, line: int, byte: int) -> int:
    """Converts the byte offsets of ast."""
    text = self.lines[line - 1]
    return byte if text.isascii() else len(text.encode()[:byte].decode())

  def span(self, node: ast.AST) -> Position | None:
    """Where a node stands; None where it covers several lines."""
    if node.lineno != node.end_lineno:
      return None
    line = node.lineno
    return (
      line,
      self._character(line, node.col_offset),
      self._character(line, node.end_col_offset),
    )

  def text(self, node: ast.AST) -> str:
    """Source text of a node that stands on one line."""
    line, start, end = self.span(node)
    return self.lines[line - 1][start:end]

  def between(self, left: ast.AST, right: ast.AST, symbol: str) -> Position | None:
    """Where `symbol` (a regular expression) stands between two neighbours.

    None where they are on different lines, or where more than spaces and parentheses is there too.
    """
    line = left.end_lineno
    if line != right.lineno:
      return None
    start = self._character(line, left.end_col_offset)
    gap = self.lines[line - 1][start : self._character(line, right.col_offset)]
    match = re.fullmatch(rf"[\s)]*?({symbol})[\s(]*", gap)
    return match and (line, start + match.start(1), start + match.end(1))

  def operands(self, node: ast.AST, left: ast.AST, right: ast.AST, symbol: str):
    """Texts of both operands with their parentheses: (left, right); None on several lines."""
    whole, operator = self.span(node), self.between(left, right, symbol)
    if whole is None or operator is None:
      return None
    text = self.lines[whole[0] - 1]
    return text[whole[1] : operator[1]].rstrip(), text[operator[2] : whole[2]].lstrip()

  def enclosed(self, node: ast.AST) -> bool:
    """Whether a node on one line has parentheses of its own, other than those of a call."""
    line, start, end = self.span(node)
    before, after = self.lines[line - 1][:start], self.lines[line - 1][end:]
    return bool(re.search(r"(^|[^\w)\]}])\s*\($", before)) and after.startswith(")")

  def drop(self, node: ast.AST, rest: str) -> tuple[Position, str]:
    """The edit that leaves `rest` of a node; parentheses around a single name or call go too."""
    line, start, end = self.span(node)
    if self.enclosed(node) and isinstance(ast.parse(rest, mode="eval").body, _ATOMS):
      return (line, start - 1, end + 1), rest
    return (line, start, end), rest

  def function(self, node: ast.AST) -> ast.AST | None:
    """The innermost function definition around a node."""
    return self.above(node, _FUNCTIONS)

  def loop(self, node: ast.AST) -> ast.AST | None:
    """The innermost loop around a node, within its function."""
    found = self.above(node, LOOPS + _FUNCTIONS + (ast.Lambda,))
    return found if isinstance(found, LOOPS) else None

  def above(self, node: ast.AST, kinds: tuple) -> ast.AST | None:
    """The innermost node of some kinds around a node."""
    node = self.parent.get(node)
    while node is not None and not isinstance(node, kinds):
      node = self.parent.get(node)
    return node

  def callee(self, call: ast.Call) -> tuple[ast.AST | None, str]:
    """(receiver, name): (x, 'sum') of `x.sum()`, (None, 'sum') of `sum(x)`."""
    if isinstance(call.func, ast.Attribute):
      return call.func.value, call.func.attr
    return None, call.func.id if isinstance(call.func, ast.Name) else ""

  def is_module(self, node: ast.AST | None) -> bool:
    """Whether a receiver is reached from an imported name."""
    while isinstance(node, ast.Attribute):
      node = node.value
    return isinstance(node, ast.Name) and node.id in self.imported

  def is_array_call(self, call: ast.Call) -> bool:
    """Whether `a.f(...)` is a function of an array library or a method of an array."""
    receiver, _ = self.callee(call)
    if receiver is None:
      return False
    if self.is_module(receiver):
      return last_name(receiver) in ARRAY_MODULES
    return not (isinstance(receiver, ast.Name) and receiver.id in ("self", "cls")) and (
      not (isinstance(receiver, ast.Call) and self.callee(receiver)[1] == "super")
    )

  def mutable_nodes(self) -> Iterator[ast.AST]:
    """Nodes that decide what the program computes, parents first, in the order of the source.

    They lie in bodies of functions. Left out: decorators, defaults, annotations, assertions, raise
    statements, conditions that only guard an error or a message, f-strings, and what is printed,
    logged or shown by `__repr__`.
    """
    pending = [self.tree]
    inside = {self.tree: False}
    while pending:
      node = pending.pop()
      active = inside[node]
      if active:
        yield node
      children = list(self._children(node))
      for child in children:
        inside[child] = active or isinstance(node, _FUNCTIONS)
      pending.extend(reversed(children))

  def _children(self, node: ast.AST) -> list[ast.AST]:
    if isinstance(node, (ast.Assert, ast.Raise, ast.JoinedStr, ast.Global, ast.Nonlocal)):
      return []
    if isinstance(node, _FUNCTIONS):
      return [] if node.name in ("__repr__", "__str__") else node.body
    if isinstance(node, ast.Call):
      name = self.callee(node)[1]
      if name in _MESSAGES or name.startswith(("assert_", "_assert")):
        return []
    if isinstance(node, ast.ClassDef):
      return node.body
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and all(map(self._only_speaks, node.body)):
      children.remove(node.test)
    if isinstance(node, (ast.AnnAssign, ast.arg)) and node.annotation is not None:
      children.remove(node.annotation)
    return children

  def _only_speaks(self, statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
      value = statement.value
      return isinstance(value, ast.Constant) or (
        isinstance(value, ast.Call) and self.callee(value)[1] in _MESSAGES
      )
    return isinstance(statement, (ast.Raise, ast.Assert, ast.Pass))


def parse(text: str) -> ast.Module:
  """ast.parse without its warnings about other people's code, such as unknown escapes."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return ast.parse(text)


def same(a: ast.AST, b: ast.AST) -> bool:
  """Whether two expressions are written with the same syntax tree."""
  return ast.dump(a) == ast.dump(b)


def last_name(node: ast.AST | None) -> str:
  """The last identifier of a name, attribute or called function, '' for anything else."""
  if isinstance(node, ast.Call):
    node = node.func
  if isinstance(node, ast.Attribute):
    return node.attr
  return node.id if isinstance(node, ast.Name) else ""


def number(node: ast.AST) -> int | float | None:
  """Value of a number as written, sign included."""
  if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
    value = number(node.operand)
    return None if value is None else -value
  if isinstance(node, ast.Constant) and type(node.value) in (int, float):
    return node.value
  return None


def integer(node: ast.AST) -> int | None:
  """Value of a whole number as written."""
  value = number(node)
  return value if isinstance(value, int) else None


def is_atom(node: ast.AST, outer_text: str, text: str) -> bool:
  """Whether an operand may stand beside any operator: a primary, or in parentheses."""
  return isinstance(node, _ATOMS) or outer_text != text


def is_numeric(node: ast.AST, code: Code) -> bool:
  """Whether an expression is a number or an array for sure."""
  if isinstance(node, ast.BinOp):
    if isinstance(node.op, (ast.Add, ast.Mod)):
      return is_numeric(node.left, code) or is_numeric(node.right, code)
    return not is_text(node.left) and not is_text(node.right)
  if isinstance(node, ast.Call):
    receiver, name = code.callee(node)
    if name in _TEXT_CALLS:
      return False
    return name in _NUMERIC_CALLS or (
      code.is_module(receiver) and last_name(receiver) in ARRAY_MODULES
    )
  if isinstance(node, ast.UnaryOp):
    return isinstance(node.op, ast.USub)
  return number(node) is not None


def sign_matters(node: ast.AST, code: Code) -> bool:
  """Whether a value's sign is not lost at once, in an even power, abs, a norm or `== 0`."""
  parent = code.parent[node]
  if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Pow) and node is parent.left:
    return (integer(parent.right) or 1) % 2 == 1
  if isinstance(parent, ast.Compare):
    return not isinstance(parent.ops[0], (ast.Eq, ast.NotEq))
  return not (isinstance(parent, ast.Call) and _EVEN.search(last_name(parent)))


def is_text(node: ast.AST) -> bool:
  """Whether an expression may be a string, path, list or set rather than a number."""
  if isinstance(
    node,
    (
      ast.JoinedStr,
      ast.List,
      ast.Tuple,
      ast.Set,
      ast.ListComp,
      ast.SetComp,
      ast.Dict,
      ast.DictComp,
      ast.GeneratorExp,
    ),
  ):
    return True
  if isinstance(node, ast.Constant):
    return number(node) is None
  if isinstance(node, ast.BinOp):
    return is_text(node.left) or is_text(node.right)
  if isinstance(node, ast.Call) and last_name(node) in _TEXT_CALLS:
    return True
  return bool(_TEXT_NAMES.search(last_name(node).lower()))
