"""Dense attention with ordinary autodiff: the reference, and the path for training K and V."""

import jax
import jax.numpy as jnp

from tttjax.attention.folding import fold, fold_limits, unfold
from tttjax.attention.merging import MASKED


def attend_dense(
  q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array, limits: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Attention of every query over the slots first <= slot < limit, scores held whole.

  Args:
    q: [B, T, H, d]; the heads h*G .. h*G + G-1 read KV head h.
    k, v: [B, K, S, d].
    first: int32 [B], first visible slot.
    limits: int32 [B, T], one past the last visible slot of each query.

  Returns:
    o float32 [B, T, H, d] and lse float32 [B, T, H]; differentiable in q, k and v.
    A query without a visible slot gives o = 0 and lse = MASKED.
  """
  t, kv_heads = q.shape[1], k.shape[1]
  limits = fold_limits(limits, q.shape[2] // kv_heads)
  slots = jnp.arange(k.shape[2], dtype=jnp.int32)
  visible = (slots >= first[:, None, None]) & (slots < limits[:, :, None])
  visible = visible[:, None]
  q = fold(q, kv_heads)
  scores = jnp.einsum("bkrd,bksd->bkrs", q, k, preferred_element_type=jnp.float32)
  scores = jnp.where(visible, scores * q.shape[-1] ** -0.5, MASKED)
  top = jax.lax.stop_gradient(jnp.maximum(scores.max(-1), MASKED / 2))
  weights = jnp.exp(scores - top[..., None])
  total = weights.sum(-1)
  o = jnp.einsum("bkrs,bksd->bkrd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
  seen = total > 0
  total = jnp.where(seen, total, 1.0)
  lse = jnp.where(seen, top + jnp.log(total), MASKED)
  return unfold(o / total[..., None], t), unfold(lse, t)
