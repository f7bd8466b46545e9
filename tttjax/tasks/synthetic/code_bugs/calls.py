"""Mutation operators on calls: transformations, their order, arguments."""

import ast
import re

from tttjax.tasks.synthetic.code_bugs.mutation import operator
from tttjax.tasks.synthetic.code_bugs.syntax import (
  Code,
  integer,
  is_atom,
  last_name,
  number,
  same,
  sign_matters,
)

_ELEMENTWISE = frozenset(
  {
    "abs",
    "absolute",
    "sqrt",
    "rsqrt",
    "square",
    "exp",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "tanh",
    "sigmoid",
    "softmax",
    "log_softmax",
    "relu",
    "gelu",
    "silu",
    "softplus",
    "reciprocal",
  }
)
_NOT_NEGATIVE = frozenset(
  {
    "abs",
    "absolute",
    "sqrt",
    "square",
    "exp",
    "norm",
    "len",
    "sigmoid",
    "softmax",
    "softplus",
    "var",
    "std",
    "count_nonzero",
    "finfo",
  }
)
# Pairs whose order makes no difference, or none on the values where both are defined.
_COMMUTING = tuple(
  map(
    frozenset,
    (
      ("abs", "square"),
      ("exp", "log"),
      ("expm1", "log1p"),
      ("relu", "sqrt"),
      ("abs", "absolute"),
      ("sqrt", "rsqrt"),
      ("square", "reciprocal"),
      ("sqrt", "reciprocal"),
      ("abs", "reciprocal"),
      ("square", "rsqrt"),
      ("sqrt", "square"),
    ),
  )
)
_SYMMETRIC = re.compile(
  r"add|plus|sum|mul|prod|max|min|equal|close|same|eq$|union|intersect|dot|inner|hypot|gcd|xor|"
  r"logical|bitwise|dist|broadcast|promote|result_type|and_|or_|assert|check|isinstance|"
  r"issubclass|attr$|cast|TypeVar|NewType|zip|transpose|swap"
)
_TAKES_FUNCTION = re.compile(
  r"map|filter|partial|reduce|loop|scan|cond|jit|grad|apply|call|with_path|eval_shape|defvjp"
)
_TYPES = re.compile(r"(^|_)dtype$|^u?int\d*$|^b?float\d*$|^complex\d*$|^bool_?$")
_UNLIKE_OTHERS = (
  ast.Starred,
  ast.Lambda,
  ast.NamedExpr,
  ast.JoinedStr,
  ast.List,
  ast.Tuple,
  ast.Dict,
)
_OPERATIONS = (
  ast.BinOp,
  ast.UnaryOp,
  ast.Compare,
  ast.BoolOp,
  ast.Attribute,
  ast.Subscript,
  ast.Await,
  ast.Starred,
)


@operator(
  ast.Call,
  symptom="A transformation of a value is missing",
  before="size = abs(error)",
  after="size = error",
)
def transform_dropped(node, code):
  """Drops abs, sqrt, exp, log, softmax, an activation or a layer's norm around a value.

  abs stays where its argument cannot be negative, or where the sign does not count.
  """
  receiver, name = code.callee(node)
  span = code.span(node)
  if span is None or any(isinstance(arg, (ast.Starred, ast.GeneratorExp)) for arg in node.args):
    return
  if name not in _ELEMENTWISE and not _is_layer_norm(node, code):
    return
  if receiver is not None and not code.is_module(receiver) and not node.args:
    inner = receiver  # x.abs()
  elif node.args and (receiver is None or code.is_module(receiver) or _is_layer_norm(node, code)):
    inner = node.args[0]
  else:
    return
  if name in ("abs", "absolute") and (_cannot_be_negative(inner) or not sign_matters(node, code)):
    return
  text = code.text(inner)
  loose = not is_atom(inner, text, text) and not code.enclosed(node)
  yield span, f"({text})" if loose and isinstance(code.parent[node], _OPERATIONS) else text


def _cannot_be_negative(node: ast.AST) -> bool:
  if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
    return integer(node.right) is not None and integer(node.right) % 2 == 0
  value = number(node)
  return last_name(node) in _NOT_NEGATIVE or (value is not None and value >= 0)


@operator(
  ast.Call,
  ast.BinOp,
  symptom="Two steps are applied in the wrong order",
  before="y = x + self.norm(f)",
  after="y = self.norm(x + f)",
)
def order_swapped(node, code):
  """Misplaces a norm or an operation: g(f(x)) for f(g(x)), norm(x + y) for x + norm(y), and back.

  Pairs that commute, such as abs and square, are left alone.
  """
  if code.span(node) is None:
    return
  if isinstance(node, ast.BinOp):
    call = node.right
    sides = code.operands(node, node.left, call, r"\+")
    if isinstance(node.op, ast.Add) and isinstance(call, ast.Call) and sides:
      if _is_layer_norm(call, code) and sides[1] == code.text(call):
        start = code.text(node)[: -len(sides[1])]
        inner = code.text(call)[len(code.text(call.func)) + 1 : -1]
        yield code.span(node), f"{code.text(call.func)}({start}{inner})"
    return
  if len(node.args) != 1 or node.keywords:
    return
  outer, inner = code.text(node.func), node.args[0]
  if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Add):
    sides = code.operands(inner, inner.left, inner.right, r"\+")
    plain = not isinstance(code.parent[node], _OPERATIONS)
    if _is_layer_norm(node, code) and sides and plain:
      start = code.text(inner)[: -len(sides[1])]
      yield code.span(node), f"{start}{outer}({sides[1]})"
  elif isinstance(inner, ast.Call) and inner.args and _order_matters(node, inner, code):
    value = code.text(inner.args[0])
    whole = code.text(inner)
    head = len(code.text(inner.func)) + 1
    if whole[head:].startswith(value):
      yield code.span(node), f"{whole[:head]}{outer}({value}){whole[head + len(value) :]}"


def _order_matters(outer: ast.Call, inner: ast.Call, code: Code) -> bool:
  names = code.callee(outer)[1], code.callee(inner)[1]
  reduces = [name in ("sum", "mean") for name in names]
  known = [
    name in _ELEMENTWISE or reduced or _is_layer_norm(call, code)
    for name, reduced, call in zip(names, reduces, (outer, inner))
  ]
  functions = [
    _is_layer_norm(call, code) or code.is_module(code.callee(call)[0]) for call in (outer, inner)
  ]
  return (
    all(known)
    and all(functions)
    and not all(reduces)
    and names[0] != names[1]
    and frozenset(names) not in _COMMUTING
  )


def _is_layer_norm(node: ast.Call, code: Code) -> bool:
  """Whether a call applies a module's own normalisation layer."""
  receiver, name = code.callee(node)
  while isinstance(receiver, ast.Attribute):
    receiver = receiver.value
  return (
    isinstance(receiver, ast.Name)
    and receiver.id == "self"
    and len(node.args) == 1
    and bool(re.search(r"(^|_)norm\d*$|(^|_)ln(_|\d|$)", name))
  )


@operator(
  ast.Call,
  symptom="The arguments of a call are in the wrong order",
  before="y = jnp.where(mask, x, 0.0)",
  after="y = jnp.where(mask, 0.0, x)",
)
def arguments_swapped(node, code):
  """Swaps the last two of two or three positional arguments.

  Left alone: functions that are symmetric or sound so, functions passed to functions, text, and
  what shows at first sight to be no other argument: lists, tuples, types.
  """
  if not 2 <= len(node.args) <= 3 or code.span(node) is None or same(*node.args[-2:]):
    return
  name = last_name(node)
  if not name or _SYMMETRIC.search(name):
    return
  if _TAKES_FUNCTION.search(name) and len(node.args) == 2:
    return
  first, second = node.args[-2:]
  for arg in (first, second):
    if isinstance(arg, _UNLIKE_OTHERS) or _TYPES.search(last_name(arg)):
      return
    if isinstance(arg, ast.Constant) and number(arg) is None:
      return
  (line, start, middle), (_, middle_end, end) = code.span(first), code.span(second)
  yield (
    (line, start, end),
    (code.text(second) + code.lines[line - 1][middle:middle_end] + code.text(first)),
  )
