"""How arrays lie in a device's memory."""

import jax
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

_LANES = 128


def row_major(x: jax.Array) -> jax.Array:
  """The same array, laid out as those that enter and leave a program are.

  Otherwise XLA for TPU lays out what a loop carries as the product that it comes from, and holds a
  second copy of all of it to return it.
  """
  return with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim))))


def slots_as_entered(cache: jax.Array) -> jax.Array:
  """The same for keys or values [..., S, d], which XLA for TPU has as [..., d, S] where S alone is
  in whole lanes: with heads of 64 row by row is twice as large.
  """
  slots, dim = cache.shape[-2:]
  if dim % _LANES == 0 or slots % _LANES:
    return row_major(cache)
  *outer, a, b = range(cache.ndim)
  turned = Layout(major_to_minor=(*outer, b, a))
  on_tpu = lambda x: with_layout_constraint(x, turned)
  return lax.platform_dependent(cache, tpu=on_tpu, default=row_major)
