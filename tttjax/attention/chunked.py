"""Attention over a stacked cache, block of slots by block, with its gradients.

The portable backend. Blocks are read straight from the [L, ...] cache at a
traced layer, so no layer of it is ever copied, and only the blocks below the
largest limit are visited: the cost follows the true length, not the capacity.
"""

from jax import lax
import jax.numpy as jnp

from tttjax.attention.merging import MASKED

# Scores held at once, rows x block of one (batch, KV head).
_SCORES = 1 << 20
# A row pays for whole blocks: with large ones a short context in a large capacity, or the first
# tokens of a long suffix, would cost what the capacity allows.
_MIN_BLOCK, _MAX_BLOCK = 128, 512


def block_size(rows: int, slots: int) -> int:
  """Slots per block: few beside the length, about a million scores a head, divides `slots`."""
  target = min(max(_SCORES // max(rows, 1), _MIN_BLOCK), _MAX_BLOCK, slots)
  return next(block for block in range(target, 0, -1) if slots % block == 0)


def visited(q, keys, first, limit):
  """Block size and the traced half-open range of blocks that any row sees."""
  block = block_size(q.shape[2], keys.shape[3])
  last = jnp.clip(limit.max(), 0, keys.shape[3])
  return block, jnp.maximum(first.min(), 0) // block, (last + block - 1) // block


def read(cache, layer, index, block):
  """Block `index` of one layer: [B, K, block, d]."""
  _, b, k, _, d = cache.shape
  zero = jnp.zeros((), jnp.int32)
  at = (jnp.asarray(layer, jnp.int32), zero, zero, jnp.asarray(index * block, jnp.int32), zero)
  return lax.dynamic_slice(cache, at, (1, b, k, block, d))[0]


def block_scores(q, k_block, index, block, first, limit):
  """Scaled float32 scores [B, K, R, block] and which of them are visible [B, 1, R, block]."""
  slots = index * block + jnp.arange(block)
  visible = (slots >= first[:, None, None]) & (slots < limit[:, :, None])
  scores = jnp.einsum("bkrd,bksd->bkrs", q, k_block, preferred_element_type=jnp.float32)
  return scores * q.shape[-1] ** -0.5, visible[:, None]


def nothing_seen(q, values):
  """The state of an online softmax before its first block: (o, largest score, sum of weights)."""
  rows = q.shape[:3]
  return (
    jnp.zeros((*rows, values.shape[-1]), jnp.float32),
    # Above MASKED, so that a block with no visible slot adds exp(MASKED - top) = 0.
    jnp.full(rows, MASKED / 2, jnp.float32),
    jnp.zeros(rows, jnp.float32),
  )


def add_block(seen, scores, visible, v, dtype):
  """The state after one more block; weights and values are multiplied in `dtype`."""
  o, top, total = seen
  scores = jnp.where(visible, scores, MASKED)
  new_top = jnp.maximum(top, scores.max(-1))
  weights = jnp.exp(scores - new_top[..., None])
  shrink = jnp.exp(top - new_top)
  part = jnp.einsum("bkrs,bksd->bkrd", weights.astype(dtype), v, preferred_element_type=jnp.float32)
  return o * shrink[..., None] + part, new_top, total * shrink + weights.sum(-1)


def finish(seen):
  """(o, lse, largest score) of a state; 0, MASKED and MASKED for a row that saw no slot."""
  o, top, total = seen
  any_slot = total > 0
  total = jnp.where(any_slot, total, 1.0)
  lse, top = (jnp.where(any_slot, x, MASKED) for x in (top + jnp.log(total), top))
  return o / total[..., None], lse, top


def forward(q, keys, values, layer, first, limit):
  """Attention output and logsumexp; arguments and results as `attend_cache`."""
  block, begin, end = visited(q, keys, first, limit)

  def body(index, seen):
    k, v = read(keys, layer, index, block), read(values, layer, index, block)
    scores, visible = block_scores(q, k, index, block, first, limit)
    return add_block(seen, scores, visible, v, v.dtype)

  return finish(lax.fori_loop(begin, end, body, nothing_seen(q, values)))[:2]


def backward_q(q, keys, values, layer, first, limit, o, lse, do, dlse):
  """Gradient of the queries, float32 [B, K, R, d]; dK and dV are never formed."""
  block, begin, end = visited(q, keys, first, limit)
  shift = dlse - (do * o).sum(-1)

  def body(index, dq):
    k, v = read(keys, layer, index, block), read(values, layer, index, block)
    scores, visible = block_scores(q, k, index, block, first, limit)
    _, dscores = _again(scores, visible, v, lse, do, shift)
    return dq + _product("bkrs,bksd->bkrd", dscores.astype(k.dtype), k)

  dq = lax.fori_loop(begin, end, body, jnp.zeros(q.shape, jnp.float32))
  return dq * q.shape[-1] ** -0.5


def backward(q, keys, values, layer, first, limit, o, lse, do, dlse):
  """Gradients of the queries and of the layer's slots: dQ [B, K, R, d], dK and dV [B, K, S, d].

  All float32; those of slots that no row sees are 0.
  """
  block, begin, end = visited(q, keys, first, limit)
  shift = dlse - (do * o).sum(-1)

  def body(index, sums):
    k, v = read(keys, layer, index, block), read(values, layer, index, block)
    scores, visible = block_scores(q, k, index, block, first, limit)
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
  return dq * scale, dk * scale, dv


def _again(scores, visible, v, lse, do, shift):
  """A block's weights P, computed again, and dS = P * (dO V^T - sum(dO * O) + dLSE)."""
  weights = jnp.where(visible, jnp.exp(scores - lse[..., None]), 0.0)
  dweights = _product("bkrd,bksd->bkrs", do.astype(v.dtype), v)
  return weights, weights * (dweights + shift[..., None])


def _product(subscripts, a, b):
  """einsum that accumulates in float32."""
  return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)
