"""Attention by blocks of slots: how a layer's blocks are read, scored and summed.

Blocks are read straight from the [L, ...] cache at a traced layer, so no layer of it is ever
copied, and only the blocks below the largest limit are visited: the cost follows the true
length, not the capacity. Queries are rows here, GQA folded into them.
"""

from jax import lax
import jax.numpy as jnp

from tttjax.attention.merging import MASKED
from tttjax.vmapped_bounds import greatest, least

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
  """Block size and the traced half-open range of blocks that any row sees.

  Args:
    q: [B, K, R, d] rows.
    keys: [L, B, K, S, d].
    first: int32 [B], first visible slot.
    limit: int32 [B, R], one past the last visible slot of each row.
  """
  block = block_size(q.shape[2], keys.shape[3])
  first, last = least(first.min()), greatest(limit.max())
  last = jnp.clip(last, 0, keys.shape[3])
  return block, jnp.maximum(first, 0) // block, (last + block - 1) // block


def read(cache, layer, index, block):
  """Block `index` of one layer: [B, K, block, d]."""
  _, b, k, _, d = cache.shape
  zero = jnp.zeros((), jnp.int32)
  at = (jnp.asarray(layer, jnp.int32), zero, zero, jnp.asarray(index * block, jnp.int32), zero)
  return lax.dynamic_slice(cache, at, (1, b, k, block, d))[0]


def block_scores(q, k_block, index, block, first, limit):
  """Scaled float32 scores [B, K, R, block] and which of them are visible [B, 1, R, block]."""
  slots = index * block + jnp.arange(block, dtype=jnp.int32)
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
