"""The portable backend: attention over a stacked cache, block by block, with its gradients."""

from jax import lax
import jax.numpy as jnp

from tttjax.attention.blocks import add_block, block_scores, finish, nothing_seen, read, visited
from tttjax.attention.folding import fold, fold_limits, unfold

# Arrays that are split over a mesh may be given whole: XLA splits the work as they are.
SPLIT_BY_XLA = True


def forward(q, keys, values, layer, first, limits):
  """Attention output and logsumexp.

  Args:
    q: [B, T, H, d].
    keys, values: [L, B, K, S, d]; the heads h*G .. h*G + G-1 read KV head h.
    layer: int32 scalar, traced.
    first: int32 [B], first visible slot.
    limits: int32 [B, T], one past the last visible slot of each query; any int32.

  Returns:
    o float32 [B, T, H, d] and lse float32 [B, T, H]. A query that sees no slot has o = 0 and
    lse = MASKED.
  """
  t = q.shape[1]
  q, limits = _rows(q, keys, limits)
  block, begin, end = visited(q, keys, first, limits)

  def body(index, seen):
    k, v = read(keys, layer, index, block), read(values, layer, index, block)
    scores, visible = block_scores(q, k, index, block, first, limits)
    return add_block(seen, scores, visible, v, v.dtype)

  o, lse, _ = finish(lax.fori_loop(begin, end, body, nothing_seen(q, values)))
  return unfold(o, t), unfold(lse, t)


def backward_q(q, keys, values, layer, first, limits, o, lse, do, dlse):
  """Gradient of the queries, float32 [B, T, H, d]; dK and dV are never formed.

  Args:
    q, keys, values, layer, first, limits: as of `forward`.
    o, lse: what it returned. do, dlse: their cotangents.
  """
  t, kv_heads = q.shape[1], keys.shape[2]
  q, limits = _rows(q, keys, limits)
  o, lse, do, dlse = (fold(x, kv_heads) for x in (o, lse, do, dlse))
  block, begin, end = visited(q, keys, first, limits)
  shift = dlse - (do * o).sum(-1)

  def body(index, dq):
    k, v = read(keys, layer, index, block), read(values, layer, index, block)
    scores, visible = block_scores(q, k, index, block, first, limits)
    _, dscores = _again(scores, visible, v, lse, do, shift)
    return dq + _product("bkrs,bksd->bkrd", dscores.astype(k.dtype), k)

  dq = lax.fori_loop(begin, end, body, jnp.zeros(q.shape, jnp.float32))
  return unfold(dq * q.shape[-1] ** -0.5, t)


def backward(q, keys, values, layer, first, limits, o, lse, do, dlse):
  """Gradients of the queries and of the layer's slots: dQ [B, T, H, d], dK and dV [B, K, S, d].

  Arguments as of `backward_q`. All float32; those of slots that no query sees are 0.
  """
  t, kv_heads = q.shape[1], keys.shape[2]
  q, limits = _rows(q, keys, limits)
  o, lse, do, dlse = (fold(x, kv_heads) for x in (o, lse, do, dlse))
  block, begin, end = visited(q, keys, first, limits)
  shift = dlse - (do * o).sum(-1)

  def body(index, sums):
    k, v = read(keys, layer, index, block), read(values, layer, index, block)
    scores, visible = block_scores(q, k, index, block, first, limits)
    weights, dscores = _again(scores, visible, v, lse, do, shift)
    dq = _product("bkrs,bksd->bkrd", dscores.astype(k.dtype), k)
    dk = _product("bkrs,bkrd->bksd", dscores.astype(k.dtype), q)
    dv = _product("bkrs,bkrd->bksd", weights.astype(v.dtype), do.astype(v.dtype))
    place = lambda whole, part: lax.dynamic_update_slice_in_dim(whole, part, index * block, 2)
    return sums[0] + dq, place(sums[1], dk), place(sums[2], dv)

  zeros = lambda shape: jnp.zeros(shape, jnp.float32)
  start = zeros(q.shape), zeros(keys.shape[1:]), zeros(values.shape[1:])
  dq, dk, dv = lax.fori_loop(begin, end, body, start)
  scale = q.shape[-1] ** -0.5
  return unfold(dq * scale, t), dk * scale, dv


def _rows(q, keys, limits):
  """Queries [B, T, H, d] and their limits [B, T] as rows [B, K, T*G, d] and [B, T*G]."""
  kv_heads = keys.shape[2]
  return fold(q, kv_heads), fold_limits(limits, q.shape[2] // kv_heads)


def _again(scores, visible, v, lse, do, shift):
  """A block's weights P, computed again, and dS = P * (dO V^T - sum(dO * O) + dLSE)."""
  weights = jnp.where(visible, jnp.exp(scores - lse[..., None]), 0.0)
  dweights = _product("bkrd,bksd->bkrs", do.astype(v.dtype), v)
  return weights, weights * (dweights + shift[..., None])


def _product(subscripts, a, b):
  """einsum that accumulates in float32."""
  return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)
