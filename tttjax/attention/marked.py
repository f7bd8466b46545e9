"""Attention over a cache in two parts, the marked slots and all others, without a gradient.

Measurements need both: the share of one part is the sigmoid of the difference of the two
logsumexps, which loses nothing where that share is near 0 or 1.
"""

from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from tttjax.attention import cached, chunked
from tttjax.sharding import spec


class Part(NamedTuple):
  """Attention over one set of slots; of a row that sees none of them o = 0, lse = top = MASKED.

  Attributes:
    o: float32 [B, K, R, d].
    lse: float32 [B, K, R], logsumexp of the scaled scores.
    top: float32 [B, K, R], the largest of them.
  """

  o: jax.Array
  lse: jax.Array
  top: jax.Array


def attend_marked(q, keys, values, marks, layer, first, limit, mesh=None) -> tuple[Part, Part]:
  """Attention of query rows over the marked and over the other visible slots of a layer.

  Args:
    q, keys, values, layer, first, limit, mesh: as `attend_cache`. Weights and values are
      multiplied in the wider of q's and the values' dtypes.
    marks: bool [B, n, S]; row r of the R rows goes by marks r // (R / n).

  Returns:
    (over the marked slots, over the others). Their `merge` is what `attend_cache` gives.
  """
  if not cached.is_split(mesh, keys):
    return _forward(q, keys, values, marks, layer, first, limit)
  heads, cache, scalar, per_batch, per_row, lse_spec = cached.cache_specs(mesh, q, keys)
  part = Part(heads, lse_spec, lse_spec)

  def local(q, keys, values, marks, layer, first, limit):
    first, limit = cached.local_window(first, limit, keys.shape[3])
    parts = _forward(q, keys, values, marks, layer, first, limit)
    return tuple(
      Part(*cached.merge_shards(o, lse), lax.pmax(top, "context")) for o, lse, top in parts
    )

  return jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(
      heads,
      cache,
      cache,
      spec(mesh, ("batch", None, "slots"), marks.shape),
      scalar,
      per_batch,
      per_row,
    ),
    out_specs=(part, part),
    check_vma=False,
  )(q, keys, values, marks, layer, first, limit)


def attend_whole(q, keys, values, layer, first, limit) -> Part:
  """Attention over all visible slots of a cache that is not split, with the largest score."""
  (part,) = _forward(q, keys, values, None, layer, first, limit)
  return part


def _forward(q, keys, values, marks, layer, first, limit):
  """The parts over marked and other slots, or without marks the one over all."""
  block, begin, end = chunked.visited(q, keys, first, limit)
  dtype = jnp.promote_types(q.dtype, values.dtype)

  def body(index, parts):
    k, v = (chunked.read(slots, layer, index, block) for slots in (keys, values))
    scores, visible = chunked.block_scores(q, k, index, block, first, limit)
    sets = (visible,)
    if marks is not None:
      marked = lax.dynamic_slice_in_dim(marks, index * block, block, axis=2)
      marked = jnp.repeat(marked, q.shape[2] // marks.shape[1], axis=1)[:, None]
      sets = visible & marked, visible & ~marked
    return tuple(
      chunked.add_block(part, scores, chosen, v, dtype) for part, chosen in zip(parts, sets)
    )

  parts = (chunked.nothing_seen(q, values),) * (1 if marks is None else 2)
  parts = lax.fori_loop(begin, end, body, parts)
  return tuple(Part(*chunked.finish(part)) for part in parts)
