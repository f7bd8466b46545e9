"""Attention over a frozen, stacked cache: differentiable in the queries, context-parallel.

Keys and values are constants here by definition (paper, section 3: they are
frozen), so their gradient is not formed; asking for it is an error. Those that a
call itself has computed have one in `attend_written`, and in `attend_dense`.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from tttjax.attention.backends import Backend
from tttjax.attention.dealt_slots import places_before
from tttjax.attention.no_gradient import frozen
from tttjax.sharding import axis_size, spec


def attend_cache(q, keys, values, layer, first, limits, backend=Backend()):
  """Attention of queries over one layer of a cache.

  Args:
    q: [B, T, H, d] queries; the heads h*G .. h*G + G-1 read KV head h.
    keys, values: [L, B, K, S, d]; with a mesh whose context axis is larger than
      one, S is dealt out over it and the parts are merged by their logsumexp.
    layer: int32 scalar, traced.
    first: int32 [B], first visible slot.
    limits: int32 [B, T], one past the last visible slot of each query.
    backend: static; the kernels, and the mesh that shards the slots.

  Returns:
    o float32 [B, T, H, d] and lse float32 [B, T, H], both differentiable in q alone.

  Raises:
    UserError: where a gradient is asked for that would flow through keys or values.
  """
  return _attend(q, frozen(keys), frozen(values), layer, first, limits, backend)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attend(q, keys, values, layer, first, limits, backend):
  return _forward(q, keys, values, layer, first, limits, backend)


def _attend_fwd(q, keys, values, layer, first, limits, backend):
  o, lse = _forward(q, keys, values, layer, first, limits, backend)
  return (o, lse), (q, keys, values, layer, first, limits, o, lse)


def _attend_bwd(backend, residuals, cotangents):
  dq = _backward_q(*residuals, *cotangents, backend)
  return dq.astype(residuals[0].dtype), None, None, None, None, None


_attend.defvjp(_attend_fwd, _attend_bwd)


def cache_specs(mesh, keys, slots="slots"):
  """PartitionSpecs of (q, cache, layer, first, limits, lse) on `mesh`.

  Query heads are split where the KV heads that they read are, and not otherwise.
  `slots` is the slots' logical axis, None where they are whole on every device.
  """
  cache = spec(mesh, (None, "batch", "kv_heads", slots, None), keys.shape)
  batch, kv = cache[1], cache[2]
  p = jax.sharding.PartitionSpec
  return p(batch, None, kv, None), cache, p(), p(batch), p(batch, None), p(batch, None, kv)


def local_window(first, limits, mesh, places):
  """The window in the places of this shard (tttjax.attention.dealt_slots)."""
  shard, shards = lax.axis_index("context"), axis_size(mesh, "context")
  return (places_before(slot, shard, shards, places) for slot in (first, limits))


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


def forward(q, keys, values, layer, first, limits, backend, split):
  """The kernels' `forward`, within shards where slots are split or the kernels need it.

  Args:
    split: whether the slots are split over the context axis of the backend's mesh.
  """
  if not (split or backend.needs_shards):
    return backend.kernels.forward(q, keys, values, layer, first, limits)
  axis = "slots" if split else None
  heads, cache, scalar, per_batch, per_query, lse_spec = cache_specs(backend.mesh, keys, axis)

  def local(q, keys, values, layer, first, limits):
    if split:
      first, limits = local_window(first, limits, backend.mesh, keys.shape[3])
    part = backend.kernels.forward(q, keys, values, layer, first, limits)
    return merge_shards(*part) if split else part

  return jax.shard_map(
    local,
    mesh=backend.mesh,
    in_specs=(heads, cache, cache, scalar, per_batch, per_query),
    out_specs=(heads, lse_spec),
    check_vma=False,
  )(q, keys, values, layer, first, limits)


def _forward(q, keys, values, layer, first, limits, backend):
  split = is_split(backend.mesh, keys)
  return forward(q, keys, values, layer, first, limits, backend, split)


def _backward_q(q, keys, values, layer, first, limits, o, lse, do, dlse, backend):
  split = is_split(backend.mesh, keys)
  if not (split or backend.needs_shards):
    return backend.kernels.backward_q(q, keys, values, layer, first, limits, o, lse, do, dlse)
  axis = "slots" if split else None
  heads, cache, scalar, per_batch, per_query, lse_spec = cache_specs(backend.mesh, keys, axis)

  def local(q, keys, values, layer, first, limits, *results):
    if split:
      first, limits = local_window(first, limits, backend.mesh, keys.shape[3])
    dq = backend.kernels.backward_q(q, keys, values, layer, first, limits, *results)
    return lax.psum(dq, "context") if split else dq

  return jax.shard_map(
    local,
    mesh=backend.mesh,
    in_specs=(heads, cache, cache, scalar, per_batch, per_query)
    + (heads, lse_spec, heads, lse_spec),
    out_specs=heads,
    check_vma=False,
  )(q, keys, values, layer, first, limits, o, lse, do, dlse)
