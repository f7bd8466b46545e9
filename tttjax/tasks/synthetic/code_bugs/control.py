"""Mutation operators on conditions, loops and variables."""

import ast

from tttjax.tasks.synthetic.code_bugs.mutation import operator
from tttjax.tasks.synthetic.code_bugs.syntax import Code, integer, last_name, same

_FLIPPED = {ast.Lt: ("<", ">"), ast.LtE: ("<=", ">="), ast.Gt: (">", "<"), ast.GtE: (">=", "<=")}
_SHIFTED = {ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">")}
_NEGATED = {
  ast.Eq: ("==", "!="),
  ast.NotEq: ("!=", "=="),
  ast.Is: ("is", "is not"),
  ast.IsNot: (r"is\s+not", "is"),
  ast.In: ("in", "not in"),
  ast.NotIn: (r"not\s+in", "in"),
}
_COUNTS = frozenset(
  {
    "len",
    "ndim",
    "size",
    "count",
    "step",
    "steps",
    "index",
    "idx",
    "num",
    "n",
    "i",
    "j",
    "k",
    "rank",
    "epoch",
    "dim",
    "length",
  }
)
_ASKS_TYPE = frozenset({"isinstance", "issubclass", "hasattr", "callable", "type", "len"})


def _comparison(node: ast.Compare, code: Code, symbols: dict):
  """(position, replacement) of a comparison's only operator, None where `symbols` lacks it."""
  if len(node.ops) != 1 or type(node.ops[0]) not in symbols:
    return None
  if same(node.left, node.comparators[0]):
    return None
  symbol, other = symbols[type(node.ops[0])]
  position = code.between(node.left, node.comparators[0], symbol)
  return position and (position, other)


@operator(
  ast.Compare,
  symptom="A comparison points the wrong way",
  before="if score > best:",
  after="if score < best:",
)
def comparison_flipped(node, code):
  """Turns < into >, <= into >=, and back; chains and equal sides are left alone."""
  edit = _comparison(node, code, _FLIPPED)
  if edit:
    yield edit


@operator(
  ast.Compare,
  symptom="A limit is included or left out wrongly",
  before="if x.ndim < 2:",
  after="if x.ndim <= 2:",
)
def boundary_shifted(node, code):
  """Turns < into <=, > into >=, and back, where a side counts something.

  Between real numbers equality hardly occurs: there the operator keeps away. A count `> 0` becomes
  `> 1`, since `>= 0` always holds.
  """
  right = node.comparators[0]
  if any(last_name(side) in _COUNTS for side in (node.left, right)):
    edit = _comparison(node, code, _SHIFTED)
    if isinstance(node.ops[0], ast.Gt) and integer(right) == 0 and code.span(right):
      edit = edit and (code.span(right), "1")
    if edit:
      yield edit


@operator(
  ast.If,
  ast.IfExp,
  ast.comprehension,
  symptom="A condition is the opposite of the right one",
  before="if mask is None:",
  after="if mask is not None:",
)
def condition_negated(node, code):
  """Negates the test of an if, a conditional expression or a comprehension's filter.

  Ordered comparisons belong to comparison_flipped; equal branches are left alone.
  """
  if isinstance(node, ast.IfExp) and same(node.body, node.orelse):
    return
  for test in node.ifs if isinstance(node, ast.comprehension) else [node.test]:
    span = code.span(test)
    if span is None or last_name(test) == "TYPE_CHECKING":
      continue
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
      operand = code.span(test.operand)
      if code.lines[span[0] - 1][span[1] : operand[1]].strip() == "not":
        yield (span[0], span[1], operand[1]), ""
    elif isinstance(test, ast.Compare):
      edit = _comparison(test, code, _NEGATED)
      if edit:
        yield edit
    elif isinstance(test, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
      yield (span[0], span[1], span[1]), "not "


@operator(
  ast.BoolOp,
  symptom="Two conditions are joined in the wrong way",
  before="if done and ready:",
  after="if done or ready:",
)
def and_or_swapped(node, code):
  """Turns `and` between two different operands into `or`, and back."""
  if len(node.values) == 2 and not same(*node.values):
    symbol, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    position = code.between(*node.values, symbol)
    if position:
      yield position, other


@operator(
  ast.Break,
  ast.Continue,
  symptom="A loop is left or goes on at the wrong moment",
  before="continue",
  after="break",
)
def loop_exit_swapped(node, code):
  """Turns `continue` into `break`, and back in a for loop (a while loop might not end)."""
  if isinstance(node, ast.Continue):
    yield code.span(node), "break"
  elif isinstance(code.loop(node), ast.For):
    yield code.span(node), "continue"


@operator(
  ast.AugAssign,
  symptom="A quantity is overwritten where it should accumulate",
  before="total += value",
  after="total = value",
)
def accumulation_lost(node, code):
  """Turns += and *= inside a loop into =, unless the loop sets the variable itself."""
  loop = code.loop(node)
  if loop is None or not isinstance(node.op, (ast.Add, ast.Mult)):
    return
  if isinstance(loop, ast.While) and last_name(node.target) in _names(loop.test):
    return  # It might not end.
  for other in ast.walk(loop):
    if isinstance(other, ast.Assign) and any(same(target, node.target) for target in other.targets):
      return
  symbol = r"\+=" if isinstance(node.op, ast.Add) else r"\*="
  position = code.between(node.target, node.value, symbol)
  if position:
    yield position, "="


@operator(
  ast.Name,
  symptom="A wrong variable is used",
  before="return mean + std * noise",
  after="return std + std * noise",
)
def wrong_variable(node, code):
  """Takes another parameter of the function for an operand or argument.

  Both have the same annotation, or neither has one and both are operands in the function.
  """
  parent = code.parent[node]
  if not isinstance(node.ctx, ast.Load) or not isinstance(parent, (ast.BinOp, ast.Call)):
    return
  if isinstance(parent, ast.Call) and (node is parent.func or last_name(parent) in _ASKS_TYPE):
    return
  function = code.function(node)
  if code.above(node, (ast.Lambda, type(function))) is not function:
    return
  arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
  kinds = {
    a.arg: a.annotation and ast.dump(a.annotation)
    for a in arguments
    if a.arg not in ("self", "cls")
  }
  if node.id not in kinds:
    return
  alike = [name for name in kinds if kinds[name] == kinds[node.id]]
  if kinds[node.id] is None:
    operands = {
      side.id
      for other in ast.walk(function)
      if isinstance(other, ast.BinOp)
      for side in (other.left, other.right)
      if isinstance(side, ast.Name)
    }
    alike = [name for name in alike if name in operands]
  if node.id in alike and len(alike) > 1:
    yield code.span(node), alike[(alike.index(node.id) + 1) % len(alike)]


def _names(node: ast.AST) -> set[str]:
  return {last_name(child) for child in ast.walk(node)} - {""}
