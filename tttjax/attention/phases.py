"""What a layer's queries attend to, one class per phase.

The model is the same in every phase; only the keys differ. It calls

    state = memory.start()                                        # once
    o, state = memory.attend(state, q, project_kv, layer)         # in every layer

where q is [B, T, H, d] after RoPE, `project_kv()` computes this layer's k and v
[B, T, K, d] (a phase that does not call it does not pay for it), `layer` is a
traced int32, and o is float32 [B, T, H, d]. `memory` is constant over the
layers; `state` is carried through them and updated in place. Frozen caches must
be in `memory`, not `state`: autodiff would save a copy of a carried one per layer.
"""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from tttjax.attention import attend_cache, attend_dense, attend_written, merge
from tttjax.attention.caches import write_slots
from tttjax.attention.frozen import frozen

KV = tuple[jax.Array, jax.Array]


def fold(q: jax.Array, kv_heads: int) -> jax.Array:
  """Queries [B, T, H, d] as rows [B, K, T*G, d]: the G heads of a group share their keys."""
  b, t, h, d = q.shape
  grouped = q.reshape(b, t, kv_heads, h // kv_heads, d)
  return grouped.transpose(0, 2, 1, 3, 4).reshape(b, kv_heads, -1, d)


def unfold(o: jax.Array, t: int) -> jax.Array:
  """The inverse of `fold`: [B, K, T*G, ...] to [B, T, H, ...]."""
  b, k, rows = o.shape[:3]
  grouped = o.reshape(b, k, t, rows // t, *o.shape[3:])
  return jnp.moveaxis(grouped, 2, 1).reshape(b, t, k * (rows // t), *o.shape[3:])


def row_limits(limits: jax.Array, group: int) -> jax.Array:
  """Limits of queries [B, T] for their folded rows [B, T*G]."""
  return jnp.repeat(limits, group, axis=1)


def _dense_causal(q, k, v):
  """Rows and logsumexp of causal attention among T new tokens: q folded, k and v [B, T, K, d]."""
  b, t, kv_heads, _ = k.shape
  limits = jnp.broadcast_to(jnp.arange(1, t + 1), (b, t))
  k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
  group = q.shape[2] // t
  return attend_dense(q, k, v, jnp.zeros((b,), jnp.int32), row_limits(limits, group))


@struct.dataclass
class SelfAttention:
  """No cache: causal attention among the tokens themselves, differentiable in everything."""

  def start(self) -> tuple[()]:
    return ()

  def attend(self, state, q, project_kv: Callable[[], KV], layer):
    del layer
    k, v = project_kv()
    o, _ = _dense_causal(fold(q, k.shape[2]), k, v)
    return unfold(o, q.shape[1]), state


@struct.dataclass
class WritePrefix:
  """Prefill of one chunk: its K and V go into the slots, its queries see all slots up to their own.

  Attributes:
    keys, values: the [L, B, K, capacity, d] slots to fill.
    offset: int32 scalar, slot of the chunk's first token.
  """

  keys: jax.Array
  values: jax.Array
  offset: jax.Array
  mesh: Mesh | None = struct.field(pytree_node=False, default=None)

  def start(self) -> KV:
    return self.keys, self.values

  def attend(self, state, q, project_kv: Callable[[], KV], layer):
    k, v = project_kv()
    keys, values = (
      write_slots(slots, new.swapaxes(1, 2), layer, self.offset, self.mesh)
      for slots, new in zip(state, (k, v))
    )
    b, t, h, _ = q.shape
    limits = jnp.broadcast_to(self.offset + jnp.arange(1, t + 1), (b, t))
    rows, kv_heads = fold(q, k.shape[2]), k.shape[2]
    o, _ = attend_cache(
      rows,
      keys,
      values,
      layer,
      jnp.zeros((b,), jnp.int32),
      row_limits(limits, h // kv_heads),
      self.mesh,
    )
    return unfold(o, t), (keys, values)


@struct.dataclass
class FrozenSpan:
  """A span of the context against the frozen cache, which holds the span's own K and V too.

  Equation of the paper's section 3: nothing is computed again but queries,
  residual stream and MLP.

  Attributes:
    keys, values: [L, 1, K, capacity, d].
    begin: int32 scalar, slot of the span's first token.
  """

  keys: jax.Array
  values: jax.Array
  begin: jax.Array
  mesh: Mesh | None = struct.field(pytree_node=False, default=None)

  def start(self) -> tuple[()]:
    return ()

  def attend(self, state, q, project_kv: Callable[[], KV], layer):
    del project_kv
    b, t, h, _ = q.shape
    kv_heads = self.keys.shape[2]
    limits = jnp.broadcast_to(self.begin + jnp.arange(1, t + 1), (b, t))
    o, _ = attend_cache(
      fold(q, kv_heads),
      self.keys,
      self.values,
      layer,
      jnp.zeros((b,), jnp.int32),
      row_limits(limits, h // kv_heads),
      self.mesh,
    )
    return unfold(o, t), state


@struct.dataclass
class RecomputedSpan(FrozenSpan):
  """A span whose own K and V are computed again, with their gradient; earlier slots stay frozen."""

  def attend(self, state, q, project_kv: Callable[[], KV], layer):
    k, v = project_kv()
    b, t, h, _ = q.shape
    rows = fold(q, k.shape[2])
    limits = jnp.broadcast_to(self.begin, (b, t * (h // k.shape[2])))
    first = jnp.zeros((b,), jnp.int32)
    prefix = attend_cache(rows, self.keys, self.values, layer, first, limits, self.mesh)
    o, _ = merge(*prefix, *_dense_causal(rows, k, v))
    return unfold(o, t), state


@struct.dataclass
class Suffix:
  """Tokens after the context: they see the whole prefix and the suffix up to themselves.

  n suffix rows share each prefix row (rows b*n .. b*n+n-1 belong to prefix row b),
  folded into its query rows, so the prefix is read once for all of them.

  Attributes:
    prefix_keys, prefix_values: [L, B, K, capacity, d].
    prefix_lengths: int32 [B].
    keys, values: suffix slots to fill [L, R, K, S, d], R = n*B.
    first: int32 [R], first suffix slot in use (rows are aligned at their end).
    offset: int32 scalar, suffix slot of the first token of this call.
  """

  prefix_keys: jax.Array
  prefix_values: jax.Array
  prefix_lengths: jax.Array
  keys: jax.Array
  values: jax.Array
  first: jax.Array
  offset: jax.Array
  mesh: Mesh | None = struct.field(pytree_node=False, default=None)

  def start(self) -> KV:
    # The gradient reaches the K and V of this call, not those that an earlier one has written.
    return frozen(self.keys), frozen(self.values)

  def prefix_rows(self, q):
    """Queries [R, T, H, d] as rows [B, K, n*T*G, d] of the prefix they share, and their window."""
    r, t, h, d = q.shape
    b, kv_heads = self.prefix_keys.shape[1:3]
    per_row = fold(q, kv_heads).reshape(b, r // b, kv_heads, -1, d)
    rows = per_row.swapaxes(1, 2).reshape(b, kv_heads, -1, d)
    limits = jnp.broadcast_to(self.prefix_lengths[:, None], (b, rows.shape[2]))
    return rows, jnp.zeros((b,), jnp.int32), limits

  def per_suffix_row(self, x):
    """Back from the prefix's rows: [B, K, n*T*G, ...] to [R, K, T*G, ...]."""
    b, kv_heads, _, *rest = x.shape
    n = self.keys.shape[1] // b
    x = x.reshape(b, kv_heads, n, -1, *rest).swapaxes(1, 2)
    return x.reshape(b * n, kv_heads, -1, *rest)

  def write(self, state, kv: KV, layer) -> KV:
    """The suffix slots with this call's K and V, [R, K, T, d] each, in them."""
    # The suffix is short and not split over the context axis: no mesh.
    return tuple(write_slots(slots, new, layer, self.offset, None) for slots, new in zip(state, kv))

  def suffix_rows(self, q):
    """Queries [R, T, H, d] as rows [R, K, T*G, d] of their own suffix, and their window."""
    r, t, h, _ = q.shape
    kv_heads = self.keys.shape[2]
    limits = jnp.broadcast_to(self.offset + jnp.arange(1, t + 1), (r, t))
    return fold(q, kv_heads), self.first, row_limits(limits, h // kv_heads)

  def attend(self, state, q, project_kv: Callable[[], KV], layer):
    new = tuple(x.swapaxes(1, 2) for x in project_kv())
    keys, values = self.write(state, new, layer)
    rows, first, limits = self.suffix_rows(q)
    suffix = attend_written(rows, *new, keys, values, layer, first, limits, self.offset)
    rows, first, limits = self.prefix_rows(q)
    slots = self.prefix_keys, self.prefix_values
    prefix = attend_cache(rows, *slots, layer, first, limits, self.mesh)
    o, _ = merge(*map(self.per_suffix_row, prefix), *suffix)
    return unfold(o, q.shape[1]), (keys, values)
