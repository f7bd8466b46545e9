"""Bounds of loops that are the same for all contexts under vmap.

A loop whose bound differs between the contexts that a program works on is run by JAX until the last
one has ended, with a select of all that it carries after every turn: a copy of a suffix cache per
token, say. Where a turn too many does no harm, because what is done is masked, one bound for all
saves the selects, and the index of the loop stays one number.
"""

import jax
from jax.custom_batching import custom_vmap
import jax.numpy as jnp


@custom_vmap
def greatest(x: jax.Array) -> jax.Array:
  """A scalar itself; under vmap the largest of all contexts, one for all."""
  return x


@greatest.def_vmap
def _greatest_of(axis_size, in_batched, x):
  del axis_size
  return greatest(x.max(0) if in_batched[0] else x), False


def least(x: jax.Array) -> jax.Array:
  """A scalar itself; under vmap the smallest of all contexts, one for all."""
  return -greatest(-x)


def anywhere(flag: jax.Array) -> jax.Array:
  """A bool scalar itself; under vmap whether it holds for any context."""
  return greatest(flag.astype(jnp.int32)) > 0
