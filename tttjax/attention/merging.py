"""Combining attention over two disjoint sets of keys; associative and differentiable."""

import jax
import jax.numpy as jnp

# Scores of masked slots, and the logsumexp of a row that sees no slot. Finite, so
# that differences of two of them are 0 and not NaN.
MASKED = -1e30


def merge(
  o_a: jax.Array, lse_a: jax.Array, o_b: jax.Array, lse_b: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Attention over the union of two key sets.

  Args:
    o_a, o_b: float32 [..., d], attention outputs over each set.
    lse_a, lse_b: float32 [...], logsumexp of the scaled scores of each set.

  Returns:
    (o, lse) over the union, float32.
  """
  lse = jnp.logaddexp(lse_a, lse_b)
  o = jnp.exp(lse_a - lse)[..., None] * o_a + jnp.exp(lse_b - lse)[..., None] * o_b
  return o, lse
