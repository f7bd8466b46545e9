"""Mutation operators on arrays and calls: axes, reductions, transformations, arguments."""

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

_AXES = frozenset({"axis", "dim"})
_WITH_AXIS = frozenset(
  {
    "sum",
    "mean",
    "max",
    "min",
    "prod",
    "std",
    "var",
    "argmax",
    "argmin",
    "all",
    "any",
    "cumsum",
    "softmax",
    "log_softmax",
    "logsumexp",
    "norm",
    "sort",
    "argsort",
    "unsqueeze",
    "squeeze",
    "concatenate",
    "stack",
    "cat",
    "split",
    "flip",
    "expand_dims",
  }
)
_REDUCTIONS = {
  "sum": "mean",
  "mean": "sum",
  "max": "min",
  "min": "max",
  "amax": "amin",
  "amin": "amax",
  "argmax": "argmin",
  "argmin": "argmax",
  "all": "any",
  "any": "all",
  "maximum": "minimum",
  "minimum": "maximum",
  "cumsum": "cumprod",
  "prod": "sum",
  "nansum": "nanmean",
  "nanmean": "nansum",
}
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
  symptom="An operation runs over the wrong axis",
  before="mean = x.mean(axis=-1)",
  after="mean = x.mean(axis=0)",
)
def wrong_axis(node, code):
  """Moves an axis or dim that is a number to its neighbour (0 to 1, 1 and -1 to 0)."""
  values = [keyword.value for keyword in node.keywords if keyword.arg in _AXES]
  receiver, name = code.callee(node)
  if name in _WITH_AXIS and receiver is not None and not values:
    position = 1 if code.is_module(receiver) else 0
    values = node.args[position : position + 1] if len(node.args) == position + 1 else []
  for value in values:
    axis = integer(value)
    if axis is not None and code.span(value):
      yield code.span(value), str(axis + (1 if axis <= 0 else -1))


@operator(
  ast.keyword,
  symptom="A reduction returns the wrong shape",
  before="x.sum(-1, keepdims=True)",
  after="x.sum(-1)",
)
def keepdims_flipped(node, code):
  """Takes keepdims or keepdim away where it is True, and turns False into True."""
  if node.arg not in ("keepdims", "keepdim") or not isinstance(node.value, ast.Constant):
    return
  span = code.span(node)
  if span is None or not isinstance(node.value.value, bool):
    return
  if not node.value.value:
    yield code.span(node.value), "True"
    return
  call = code.parent[node]
  before = call.args + call.keywords[: call.keywords.index(node)]
  if not before and len(call.keywords) == 1 and code.span(call):
    yield span, ""
  elif before and before[-1].end_lineno == span[0]:
    line = code.lines[span[0] - 1]
    comma = line.rindex(",", 0, span[1])
    if line[comma : span[1]].strip() == ",":
      yield (span[0], comma, span[2]), ""


@operator(
  ast.Call,
  symptom="Values are combined by the wrong reduction or selection",
  before="loss = errors.mean()",
  after="loss = errors.sum()",
)
def wrong_reduction(node, code):
  """Takes sum for mean, max for min, all for any, argmax for argmin, and back.

  The built-in sum has no mean to be taken for, and becomes max where it sums one collection.
  """
  receiver, name = code.callee(node)
  span = code.span(node.func)
  if span is None or not node.args and receiver is None:
    return
  if len(node.args) == 2 and same(*node.args):
    return
  if receiver is None:
    other = {"max": "min", "min": "max", "all": "any", "any": "all"}.get(name)
    if name == "sum" and len(node.args) == 1 and not node.keywords:
      other = "max"
  else:
    other = _REDUCTIONS.get(name) if code.is_array_call(node) else None
  if other and name not in code.imported:
    yield (span[0], span[2] - len(name), span[2]), other


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


def _cannot_be_negative(node: ast.AST) -> bool:
  if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
    return integer(node.right) is not None and integer(node.right) % 2 == 0
  value = number(node)
  return last_name(node) in _NOT_NEGATIVE or (value is not None and value >= 0)


@operator(
  ast.Attribute,
  ast.Call,
  symptom="An array has the wrong layout",
  before="scores = q @ k.T",
  after="scores = q @ k",
)
def transpose_dropped(node, code):
  """Drops .T, .mT, transpose or swapaxes; an attribute T of self or of a module stays."""
  span = code.span(node)
  if span is None:
    return
  if isinstance(node, ast.Attribute):
    plain = node.attr in ("T", "mT") and isinstance(node.ctx, ast.Load)
    owner = isinstance(node.value, ast.Name) and node.value.id in code.imported | {"self", "cls"}
    if plain and not owner:
      yield span, code.text(node.value)
    return
  receiver, name = code.callee(node)
  if name not in ("transpose", "swapaxes") or receiver is None or not code.is_array_call(node):
    return
  if not code.is_module(receiver):
    yield span, code.text(receiver)
  elif node.args and is_atom(node.args[0], "", ""):
    yield span, code.text(node.args[0])


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
