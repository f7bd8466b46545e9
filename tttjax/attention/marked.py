"""Attention over a cache in two parts, the marked slots and all others, without a gradient.

Measurements need both: the share of one part is the sigmoid of the difference of the two
logsumexps, which loses nothing where that share is near 0 or 1.
"""

from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from tttjax.attention import blocks, cached
from tttjax.attention.dealt_slots import dealt_order
from tttjax.attention.folding import fold, fold_limits, unfold
from tttjax.sharding import axis_size, spec


class Part(NamedTuple):
  """Attention over one set of slots; of a query that sees none of them o = 0, lse = top = MASKED.

  Attributes:
    o: float32 [B, T, H, d].
    lse: float32 [B, T, H], logsumexp of the scaled scores.
    top: float32 [B, T, H], the largest of them.
  """

  o: jax.Array
  lse: jax.Array
  top: jax.Array


def attend_marked(q, keys, values, marks, layer, first, limits, mesh=None) -> tuple[Part, Part]:
  """Attention of queries over the marked and over the other visible slots of a layer.

  Args:
    q, keys, values, layer, first, limits: as of `attend_cache`. Weights and values are
      multiplied in the wider of q's and the values' dtypes.
    marks: bool [B, n, S], by slot; query t of the T goes by marks t // (T / n).
    mesh: shards the slots. Kernels give no largest score: this is always the portable code.

  Returns:
    (over the marked slots, over the others). Their `merge` is what `attend_cache` gives.
  """
  if not cached.is_split(mesh, keys):
    return _forward(q, keys, values, marks, layer, first, limits)
  heads, cache, scalar, per_batch, per_query, lse_spec = cached.cache_specs(mesh, keys)
  part = Part(heads, lse_spec, lse_spec)

  def local(q, keys, values, marks, layer, first, limits):
    first, limits = cached.local_window(first, limits, mesh, keys.shape[3])
    parts = _forward(q, keys, values, marks, layer, first, limits)
    return tuple(
      Part(*cached.merge_shards(o, lse), lax.pmax(top, "context")) for o, lse, top in parts
    )

  marks = marks[..., dealt_order(keys.shape[3], axis_size(mesh, "context"))]
  marks_spec = spec(mesh, ("batch", None, "slots"), marks.shape)
  return jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(heads, cache, cache, marks_spec, scalar, per_batch, per_query),
    out_specs=(part, part),
    check_vma=False,
  )(q, keys, values, marks, layer, first, limits)


def attend_whole(q, keys, values, layer, first, limits) -> Part:
  """Attention over all visible slots of a cache that is not split, with the largest score."""
  (part,) = _forward(q, keys, values, None, layer, first, limits)
  return part


def _forward(q, keys, values, marks, layer, first, limits):
  """The parts over marked and other slots, or without marks the one over all."""
  t, kv_heads = q.shape[1], keys.shape[2]
  q, limits = fold(q, kv_heads), fold_limits(limits, q.shape[2] // kv_heads)
  block, begin, end = blocks.visited(q, keys, first, limits)
  dtype = jnp.promote_types(q.dtype, values.dtype)

  def body(index, parts):
    k, v = (blocks.read(slots, layer, index, block) for slots in (keys, values))
    scores, visible = blocks.block_scores(q, k, index, block, first, limits)
    sets = (visible,)
    if marks is not None:
      marked = lax.dynamic_slice_in_dim(marks, index * block, block, axis=2)
      marked = jnp.repeat(marked, q.shape[2] // marks.shape[1], axis=1)[:, None]
      sets = visible & marked, visible & ~marked
    return tuple(
      blocks.add_block(part, scores, chosen, v, dtype) for part, chosen in zip(parts, sets)
    )

  parts = (blocks.nothing_seen(q, values),) * (1 if marks is None else 2)
  parts = lax.fori_loop(begin, end, body, parts)
  return tuple(Part(*(unfold(x, t) for x in blocks.finish(part))) for part in parts)
