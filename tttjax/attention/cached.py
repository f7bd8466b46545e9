"""Attention over a frozen, stacked cache: differentiable in the queries, context-parallel.

Keys and values are constants here by definition (paper, section 3: they are
frozen), so their gradient is not formed; asking for it is an error. Those that a
call itself has computed have one in `attend_written`, and in `attend_dense`.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from tttjax.attention import chunked
from tttjax.attention.frozen import frozen
from tttjax.sharding import axis_size, spec


def attend_cache(q, keys, values, layer, first, limit, mesh=None):
  """Attention of query rows over one layer of a cache.

  Args:
    q: [B, K, R, d] query rows, GQA folded into R.
    keys, values: [L, B, K, S, d]; with a mesh whose context axis is larger than
      one, S is split over it and the parts are merged by their logsumexp.
    layer: int32 scalar, traced.
    first: int32 [B], first visible slot.
    limit: int32 [B, R], one past the last visible slot of each row.
    mesh: the mesh that shards the slots, or None where they are not sharded.

  Returns:
    o float32 [B, K, R, d] and lse float32 [B, K, R], both differentiable in q alone.

  Raises:
    UserError: where a gradient is asked for that would flow through keys or values.
  """
  return _attend(q, frozen(keys), frozen(values), layer, first, limit, mesh)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attend(q, keys, values, layer, first, limit, mesh):
  return _forward(q, keys, values, layer, first, limit, mesh)


def _attend_fwd(q, keys, values, layer, first, limit, mesh):
  o, lse = _forward(q, keys, values, layer, first, limit, mesh)
  return (o, lse), (q, keys, values, layer, first, limit, o, lse)


def _attend_bwd(mesh, residuals, cotangents):
  q, keys, values, layer, first, limit, o, lse = residuals
  do, dlse = cotangents
  dq = _backward_q(q, keys, values, layer, first, limit, o, lse, do, dlse, mesh)
  return dq.astype(q.dtype), None, None, None, None, None


_attend.defvjp(_attend_fwd, _attend_bwd)


def cache_specs(mesh, q, keys):
  """PartitionSpecs of (q, cache, layer, first, limit, lse) on `mesh`."""
  heads = spec(mesh, ("batch", "kv_heads", None, None), q.shape)
  cache = spec(mesh, (None, "batch", "kv_heads", "slots", None), keys.shape)
  batch, kv = heads[0], heads[1]
  p = jax.sharding.PartitionSpec
  return heads, cache, p(), p(batch), p(batch, None), p(batch, kv, None)


def local_window(first, limit, slots):
  """The window in this shard's slots: shard c of the context axis holds [c*slots, (c+1)*slots)."""
  offset = lax.axis_index("context") * slots
  return first - offset, limit - offset


def is_split(mesh, keys):
  """Whether the slots of `keys` are split over the context axis of `mesh`."""
  size = axis_size(mesh, "context")
  return size > 1 and keys.shape[3] % size == 0


def merge_shards(o, lse):
  """Inside a shard_map: the merge of every context shard's attention part."""
  top = lax.pmax(lse, "context")
  share = jnp.exp(lse - top)
  total = lax.psum(share, "context")
  o = lax.psum(o * share[..., None], "context") / total[..., None]
  return o, top + jnp.log(total)


def _forward(q, keys, values, layer, first, limit, mesh):
  if not is_split(mesh, keys):
    return chunked.forward(q, keys, values, layer, first, limit)
  heads, cache, scalar, per_batch, per_row, lse_spec = cache_specs(mesh, q, keys)

  def local(q, keys, values, layer, first, limit):
    first, limit = local_window(first, limit, keys.shape[3])
    o, lse = chunked.forward(q, keys, values, layer, first, limit)
    return merge_shards(o, lse)

  return jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(heads, cache, cache, scalar, per_batch, per_row),
    out_specs=(heads, lse_spec),
    check_vma=False,
  )(q, keys, values, layer, first, limit)


def _backward_q(q, keys, values, layer, first, limit, o, lse, do, dlse, mesh):
  if not is_split(mesh, keys):
    return chunked.backward_q(q, keys, values, layer, first, limit, o, lse, do, dlse)
  heads, cache, scalar, per_batch, per_row, lse_spec = cache_specs(mesh, q, keys)

  def local(q, keys, values, layer, first, limit, o, lse, do, dlse):
    first, limit = local_window(first, limit, keys.shape[3])
    dq = chunked.backward_q(q, keys, values, layer, first, limit, o, lse, do, dlse)
    return lax.psum(dq, "context")

  return jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(heads, cache, cache, scalar, per_batch, per_row) + (heads, lse_spec, heads, lse_spec),
    out_specs=heads,
    check_vma=False,
  )(q, keys, values, layer, first, limit, o, lse, do, dlse)
