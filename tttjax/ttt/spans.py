"""Where spans start."""

import jax
import jax.numpy as jnp


def sample_start(key: jax.Array, step: jax.Array, length: jax.Array, span: int) -> jax.Array:
  """Uniform start of span `step`, int32 in [0, length - span - 1] (paper, section 3, step 2).

  Span i of a key comes from fold_in(key, i), so a resumed run draws the same spans.
  """
  last = jnp.maximum(length - span - 1, 0)
  return jax.random.randint(jax.random.fold_in(key, step), (), 0, last + 1, jnp.int32)
