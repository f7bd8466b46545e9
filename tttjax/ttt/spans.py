"""Where spans start."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def sample_start(key: jax.Array, step: jax.Array, length: jax.Array, span: int) -> jax.Array:
  """Uniform start of span `step`, int32 in [0, length - span - 1] (paper, section 3, step 2).

  Span i of a key comes from fold_in(key, i), so a resumed run draws the same spans.
  """
  last = jnp.maximum(length - span - 1, 0)
  return jax.random.randint(jax.random.fold_in(key, step), (), 0, last + 1, jnp.int32)


def sample_starts(key: jax.Array, length: int, span: int, steps: int) -> np.ndarray:
  """The starts int32 [steps] that `adapt` will draw with this key, for counting before it runs."""
  size = max(64, 1 << max(steps - 1, 0).bit_length())  # few programs, whatever the steps
  return np.asarray(_sample_starts(key, jnp.int32(length), jnp.int32(span), size))[:steps]


@functools.partial(jax.jit, static_argnums=3)
def _sample_starts(key, length, span, size):
  draw = lambda step: sample_start(key, step, length, span)
  return jax.vmap(draw)(jnp.arange(size, dtype=jnp.int32))
