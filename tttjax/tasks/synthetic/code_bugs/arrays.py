"""Mutation operators on the shape of arrays: axes, reductions, layouts."""

import ast

from tttjax.tasks.synthetic.code_bugs.mutation import operator
from tttjax.tasks.synthetic.code_bugs.syntax import (
  integer,
  is_atom,
  same,
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
