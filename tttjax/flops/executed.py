"""Executed FLOPs: the dot products that a JAX function really runs, read from its jaxpr.

XLA's own cost_analysis counts the body of a loop once and a Pallas call as nothing.
"""

from collections.abc import Callable, Iterator, Sequence
import itertools
import math
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import partial_eval

from tttjax.errors import UserError

# What these compute is not in the jaxpr as dot_general; leaving them out would be silently wrong.
_OPAQUE = (
  "pallas_call",
  "ffi_call",
  "conv_general_dilated",
  "ragged_dot_general",
  "dot_product_attention_fwd_wrapper",  # cuDNN
  "dot_product_attention_bwd_wrapper",
)


def executed_flops(fn: Callable, *args: Any, while_trips: int | Sequence[int] | None = None) -> int:
  """FLOPs of the dot products in `fn(*args)`: 2 per multiply-add, summed over all devices.

  Nothing runs: the function is traced, dead code is removed as XLA would, and dot_general is
  summed through jit, remat and custom derivatives; a scan's body counts times its length, a
  shard_map's times the devices of its manual axes, of a cond the costliest branch. Elementwise work
  is not counted.

  Args:
    fn: a JAX function; static arguments bound beforehand (functools.partial).
    *args: arrays or jax.ShapeDtypeStructs, in pytrees.
    while_trips: how often the while loops that contain dot products run, which a jaxpr does not
      say: one number for all, or one for each in the order in which they appear, an outer loop
      before those inside it.

  Raises:
    UserError: while_trips is missing or has the wrong length, or the function calls a kernel whose
      products cannot be seen (use a backend written in JAX).
  """
  closed = jax.make_jaxpr(fn)(*args)
  live, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
  if while_trips is None or isinstance(while_trips, int):
    return _jaxpr_flops(live, itertools.repeat(while_trips))
  trips = iter(while_trips)
  total = _jaxpr_flops(live, trips)
  if unused := len(list(trips)):
    raise UserError(f"executed_flops: {unused} of while_trips={tuple(while_trips)} left over")
  return total


def _jaxpr_flops(jaxpr: core.Jaxpr, trips: Iterator[int | None]) -> int:
  return sum(_equation_flops(eqn, trips) for eqn in jaxpr.eqns)


def _equation_flops(eqn: core.JaxprEqn, trips: Iterator[int | None]) -> int:
  name, params = eqn.primitive.name, eqn.params
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    lhs = eqn.invars[0].aval.shape
    return 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(lhs[axis] for axis in contracted)
  if name in _OPAQUE:
    raise UserError(
      f"executed_flops: the products inside {name} are not in the jaxpr; count the function with"
      " an attention backend written in JAX"
    )
  if name == "while":
    return _while_flops(params, trips)

  inner = [_jaxpr_flops(jaxpr, trips) for jaxpr in _inner_jaxprs(params)]
  if name == "cond":
    return max(inner)
  if name == "scan":
    return params["length"] * sum(inner)
  if name == "shard_map":
    devices = math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])
    return devices * sum(inner)
  return sum(inner)


def _while_flops(params: dict[str, Any], trips: Iterator[int | None]) -> int:
  condition, body = params["cond_jaxpr"].jaxpr, params["body_jaxpr"].jaxpr
  once = itertools.repeat(1)
  if _jaxpr_flops(condition, once) + _jaxpr_flops(body, once) == 0:
    return 0  # loops of random bits and the like, which need no trip count
  count = next(trips, None)
  if count is None:
    raise UserError(
      "executed_flops: a while loop with dot products runs an unknown number of times; give its"
      " count in while_trips"
    )
  return (count + 1) * _jaxpr_flops(condition, trips) + count * _jaxpr_flops(body, trips)


def _inner_jaxprs(params: dict[str, Any]) -> list[core.Jaxpr]:
  """Jaxprs among an equation's parameters, alone or in a tuple (a cond's branches)."""
  found = []
  for value in params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(item, core.ClosedJaxpr):
        found.append(item.jaxpr)
      elif isinstance(item, core.Jaxpr):
        found.append(item)
  return found
