"""Dense attention with ordinary autodiff: the reference, and the path for training K and V."""

import jax
import jax.numpy as jnp

from tttjax.attention.merging import MASKED


def attend_dense(
  q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array, limit: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Attention of every row over the slots first <= slot < limit, scores held whole.

  Args:
    q: [B, K, R, d] query rows; K KV heads, the G query heads of each folded into rows.
    k, v: [B, K, S, d].
    first: int32 [B], first visible slot.
    limit: int32 [B, R], one past the last visible slot of each row.

  Returns:
    o float32 [B, K, R, d] and lse float32 [B, K, R]; differentiable in q, k and v.
    A row without a visible slot gives o = 0 and lse = MASKED.
  """
  slots = jnp.arange(k.shape[2])
  visible = (slots >= first[:, None, None]) & (slots < limit[:, :, None])
  visible = visible[:, None]
  scores = jnp.einsum("bkrd,bksd->bkrs", q, k, preferred_element_type=jnp.float32)
  scores = jnp.where(visible, scores * q.shape[-1] ** -0.5, MASKED)
  top = jax.lax.stop_gradient(jnp.maximum(scores.max(-1), MASKED / 2))
  weights = jnp.exp(scores - top[..., None])
  total = weights.sum(-1)
  o = jnp.einsum("bkrs,bksd->bkrd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
  seen = total > 0
  total = jnp.where(seen, total, 1.0)
  return o / total[..., None], jnp.where(seen, top + jnp.log(total), MASKED)
