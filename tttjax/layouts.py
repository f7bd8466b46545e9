"""How arrays lie in a device's memory."""

import jax
from jax.experimental.layout import Layout, with_layout_constraint


def row_major(x: jax.Array) -> jax.Array:
  """The same array, laid out as those that enter and leave a program are.

  Otherwise XLA for TPU lays out what a loop carries as the product that it comes from, and holds a
  second copy of all of it to return it.
  """
  return with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim))))
