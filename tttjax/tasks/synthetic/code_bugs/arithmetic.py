"""Mutation operators on arithmetic: scaling, terms, signs, operands, constants, bounds."""

import ast
import re

from tttjax.tasks.synthetic.code_bugs.mutation import operator
from tttjax.tasks.synthetic.code_bugs.syntax import (
  Code,
  integer,
  is_atom,
  is_numeric,
  is_text,
  last_name,
  number,
  same,
  sign_matters,
)

_SYMBOLS = {
  ast.Add: r"\+",
  ast.Sub: "-",
  ast.Mult: r"\*",
  ast.Div: "/",
  ast.FloorDiv: "//",
  ast.Mod: "%",
  ast.Pow: r"\*\*",
  ast.MatMult: "@",
}
_SCALES = re.compile(
  r"scal|rate|factor|temp|weight|decay|norm|std|sqrt|gamma|alpha|beta|momentum|total|count|num|"
  r"size|len|^lr$|_lr$|^dim$|_dim$"
)


def _sides(node: ast.BinOp, code: Code) -> tuple[str, str] | None:
  return code.operands(node, node.left, node.right, _SYMBOLS[type(node.op)])


def _drop(node: ast.BinOp, kept: ast.AST, text: str, code: Code):
  """The edit that leaves one operand, `kept`; None where its trace would show.

  Where a 1 is left of a factor or divisor, all of it goes: nobody writes `1 * x`.
  """
  if number(kept) not in (0, 1):
    return code.drop(node, text)
  product = code.parent[node]
  if not isinstance(product, ast.BinOp):
    return code.drop(node, text)
  sides = _sides(product, code)
  if number(kept) == 0 or not sides:
    return None
  if isinstance(product.op, ast.Mult):
    other = sides[1] if node is product.left else sides[0]
  elif isinstance(product.op, ast.Div) and node is product.right:
    other = sides[0]
  else:
    return None
  return None if other.startswith("-") else code.drop(product, other)


def _symbol(node: ast.BinOp, code: Code):
  return code.between(node.left, node.right, _SYMBOLS[type(node.op)])


@operator(
  ast.BinOp,
  symptom="A value is not scaled as it should be",
  before="scores = q @ k.T / math.sqrt(width)",
  after="scores = q @ k.T",
)
def scale_dropped(node, code):
  """Drops a factor or divisor whose name says that it scales; constants of 1 do not count."""
  sides = isinstance(node.op, (ast.Mult, ast.Div)) and _sides(node, code)
  if not sides or is_text(node.left) or is_text(node.right):
    return
  if _SCALES.search(last_name(node.right).lower()):
    edit = _drop(node, node.left, sides[0], code)
  elif isinstance(node.op, ast.Mult) and _SCALES.search(last_name(node.left).lower()):
    edit = _drop(node, node.right, sides[1], code)
  else:
    return
  if edit:
    yield edit


@operator(
  ast.BinOp,
  symptom="A term of a sum or difference is missing",
  before="update = step * grad + decay * weight",
  after="update = step * grad",
)
def term_dropped(node, code):
  """Drops the right operand of + or - between numbers; one that is 0 or 1 is left alone.

  Of (1 - decay) * x it leaves x.
  """
  if not isinstance(node.op, (ast.Add, ast.Sub)) or number(node.right) in (0, 1):
    return
  if is_text(node.left) or is_text(node.right):
    return
  sure = is_numeric(node.left, code) or is_numeric(node.right, code)
  sides = _sides(node, code)
  if sides and (sure or isinstance(node.op, ast.Sub)):
    edit = _drop(node, node.left, sides[0], code)
    if edit:
      yield edit


@operator(
  ast.BinOp,
  ast.UnaryOp,
  ast.AugAssign,
  symptom="A quantity enters with the wrong sign",
  before="loss = error + penalty * 2",
  after="loss = error - penalty * 2",
)
def sign_flipped(node, code):
  """Turns + into - and back between numbers, += into -=, and drops a minus in front of a name.

  A minus stays where an even function or power would hide that it is gone.
  """
  if isinstance(node, ast.UnaryOp):
    span = code.span(node)
    if isinstance(node.op, ast.USub) and number(node.operand) is None and span:
      if sign_matters(node, code) and re.match(r"-\s*[^-\s]", code.text(node)):
        yield (span[0], span[1], span[1] + 1), ""
    return
  if not isinstance(node.op, (ast.Add, ast.Sub)):
    return
  augmented = isinstance(node, ast.AugAssign)
  left, right = (node.target, node.value) if augmented else (node.left, node.right)
  if number(right) == 0 or is_text(left) or is_text(right):
    return
  if not (isinstance(node.op, ast.Sub) or is_numeric(left, code) or is_numeric(right, code)):
    return  # Strings and lists are added too.
  position = code.between(left, right, _SYMBOLS[type(node.op)] + ("=" if augmented else ""))
  if position:
    sign = "-" if isinstance(node.op, ast.Add) else "+"
    yield position, sign + ("=" if augmented else "")


@operator(
  ast.BinOp,
  symptom="An arithmetic operator is the wrong one",
  before="half = total // 2",
  after="half = total / 2",
)
def wrong_operator(node, code):
  """/ and * take each other's place, // becomes /, % becomes //, ** becomes *.

  Left alone: text and lists, factors of 1 or -1, 1 / x, exponent 1, and 2 ** 2.
  """
  others = {ast.Div: "*", ast.Mult: "/", ast.FloorDiv: "/", ast.Mod: "//", ast.Pow: "*"}
  if type(node.op) not in others or is_text(node.left) or is_text(node.right):
    return
  if number(node.right) in (1, -1) or (number(node.right) == 2 == number(node.left)):
    return
  if number(node.left) in (0, 1, -1):
    return
  position = _symbol(node, code)
  if position:
    yield position, others[type(node.op)]


@operator(
  ast.BinOp,
  symptom="The operands of an operation are in the wrong order",
  before="decay = 1 - rate",
  after="decay = rate - 1",
)
def operands_swapped(node, code):
  """Swaps the sides of -, /, //, %, ** and @; both are names, calls or in parentheses.

  A difference stays where only its size counts, such as in abs(a - b), and 1 / a, which nobody
  would write as a / 1.
  """
  kinds = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)
  if not isinstance(node.op, kinds) or same(node.left, node.right):
    return
  if is_text(node.left) or is_text(node.right):
    return
  if isinstance(node.op, ast.Sub) and not sign_matters(node, code):
    return
  if not isinstance(node.op, ast.Sub) and number(node.left) == 1:
    return
  sides = _sides(node, code)
  pairs = sides and tuple(zip((node.left, node.right), sides))
  if sides and all(is_atom(operand, text, code.text(operand)) for operand, text in pairs):
    gap = code.text(node)[len(sides[0]) : -len(sides[1])]
    yield code.span(node), sides[1] + gap + sides[0]


@operator(
  ast.Assign,
  ast.AnnAssign,
  ast.Call,
  symptom="A value starts or is set wrong",
  before="total = 0",
  after="total = 1",
)
def wrong_initial_value(node, code):
  """Takes 0 for 1, True for False and zeros for ones, and back, in a variable that is read later.

  Left alone: a variable that nothing reads after the assignment, and empty arrays.
  """
  if isinstance(node, ast.Call):
    others = {
      "zeros": "ones",
      "ones": "zeros",
      "zeros_like": "ones_like",
      "ones_like": "zeros_like",
    }
    span = code.span(node.func)
    name = code.callee(node)[1]
    empty = bool(node.args) and number(node.args[0]) == 0
    if span and name in others and code.is_array_call(node) and not empty:
      yield (span[0], span[2] - len(name), span[2]), others[name]
    return
  target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
  if not isinstance(target, ast.Name) or not isinstance(node.value, ast.Constant):
    return
  others = {"0": "1", "1": "0", "0.0": "1.0", "1.0": "0.0", "True": "False", "False": "True"}
  text = code.text(node.value) if code.span(node.value) else ""
  if text in others and _is_read_later(target.id, node, code):
    yield code.span(node.value), others[text]


def _is_read_later(name: str, node: ast.stmt, code: Code) -> bool:
  function = code.function(node)
  return any(
    isinstance(other, ast.Name)
    and other.id == name
    and other.lineno > node.end_lineno
    and (isinstance(other.ctx, ast.Load) or isinstance(code.parent[other], ast.AugAssign))
    for other in ast.walk(function)
  )


@operator(
  ast.BinOp,
  ast.Call,
  ast.Subscript,
  ast.Slice,
  symptom="Something is off by one",
  before="for i in range(len(layers)):",
  after="for i in range(len(layers) - 1):",
)
def off_by_one(node, code):
  """Moves the end of a range, a slice's bound or an index by one, or drops a + 1 or - 1.

  Indices move to the more common neighbour: 1 and -1 to 0, 0 to 1.
  """
  if isinstance(node, ast.BinOp):
    sides = (
      isinstance(node.op, (ast.Add, ast.Sub))
      and integer(node.right) == 1
      and (not is_text(node.left) and _sides(node, code))
    )
    if sides:
      yield code.drop(node, sides[0])
  elif isinstance(node, ast.Call):
    if code.callee(node) == (None, "range") and 1 <= len(node.args) <= 3:
      yield from _move(node.args[min(1, len(node.args) - 1)], -1, code)
  elif isinstance(node, ast.Slice):
    if node.upper is not None:
      yield from _move(node.upper, -1, code)
    if node.lower is not None:
      yield from _move(node.lower, 1, code)
  else:
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for item in items:
      index = integer(item)
      if index is not None and code.span(item):
        yield code.span(item), str(index + (1 if index <= 0 else -1))


def _move(node: ast.AST, by: int, code: Code):
  """Edits that move a bound by +1 or -1; a number stays on its side of 0."""
  span = code.span(node)
  value = integer(node)
  if span is None:
    return
  if value is not None:
    moved = value - 1 if value < 0 else (value + by if value + by > 0 else value + 1)
    yield span, str(moved)
  elif isinstance(node, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
    yield span, f"{code.text(node)} {'+' if by > 0 else '-'} 1"
