"""What a layer's queries attend to, one class per phase.

The model is the same in every phase; only the keys differ. It calls

    state = memory.start()                                        # once
    o, state = memory.attend(state, q, project_kv, layer)         # in every layer

where q is [B, T, H, d] after RoPE, `project_kv()` computes this layer's k and v
[B, T, K, d] (a phase that does not call it does not pay for it), `layer` is a
traced int32, and o is float32 [B, T, H, d]. `memory` is constant over the
layers; `state` is carried through them and updated in place. Frozen caches must
be in `memory`, not `state`: autodiff would save a copy of a carried one per layer.

A phase is a value: the caches it reads, where its tokens are in them, and the
static `Backend`.
"""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp

from tttjax.attention.backends import Backend
from tttjax.attention.cached import attend_cache
from tttjax.attention.caches import PrefixCache, SuffixCache, write_slots
from tttjax.attention.dense_attention import attend_dense
from tttjax.attention.merging import merge
from tttjax.attention.no_gradient import frozen
from tttjax.attention.written import attend_written

KV = tuple[jax.Array, jax.Array]


def slot_major(kv: KV) -> KV:
  """New k and v [B, T, K, d] as caches hold them, [B, K, T, d]."""
  k, v = kv
  return k.swapaxes(1, 2), v.swapaxes(1, 2)


def causal_limits(offset, q: jax.Array) -> jax.Array:
  """int32 [B, T]: query t of q, in slot offset + t, sees the slots up to its own."""
  b, t = q.shape[:2]
  return jnp.broadcast_to(offset + jnp.arange(1, t + 1, dtype=jnp.int32), (b, t))


def _from_zero(q: jax.Array) -> jax.Array:
  """The first slot int32 [B] where no slots are left out at the front."""
  return jnp.zeros(q.shape[:1], jnp.int32)


def _attend_to_themselves(q, kv: KV):
  """Causal attention among T new tokens, k and v slot-major: output and logsumexp."""
  return attend_dense(q, *kv, _from_zero(q), causal_limits(jnp.int32(0), q))


@struct.dataclass
class SelfAttention:
  """No cache: causal attention among the tokens themselves, differentiable in everything."""

  def start(self) -> tuple[()]:
    return ()

  def attend(self, state, q, project_kv: Callable[[], KV], layer):
    del layer
    o, _ = _attend_to_themselves(q, slot_major(project_kv()))
    return o, state


@struct.dataclass
class WritePrefix:
  """Prefill of one chunk: its K and V go into the slots, its queries see all slots up to their own.

  Attributes:
    cache: whose keys and values are filled; its positions and lengths are not read.
    offset: int32 scalar, slot of the chunk's first token.
    backend: static.
  """

  cache: PrefixCache
  offset: jax.Array
  backend: Backend = struct.field(pytree_node=False, default=Backend())

  def start(self) -> KV:
    return self.cache.keys, self.cache.values

  def attend(self, state, q, project_kv: Callable[[], KV], layer):
    mesh = self.backend.mesh
    state = tuple(
      write_slots(slots, new, layer, self.offset, mesh)
      for slots, new in zip(state, slot_major(project_kv()))
    )
    limits = causal_limits(self.offset, q)
    o, _ = attend_cache(q, *state, layer, _from_zero(q), limits, self.backend)
    return o, state


@struct.dataclass
class FrozenSpan:
  """A span of the context against the frozen cache, which holds the span's own K and V too.

  Equation of the paper's section 3: nothing is computed again but queries,
  residual stream and MLP.

  Attributes:
    cache: of batch 1.
    begin: int32 scalar, slot of the span's first token.
    backend: static.
  """

  cache: PrefixCache
  begin: jax.Array
  backend: Backend = struct.field(pytree_node=False, default=Backend())

  def start(self) -> tuple[()]:
    return ()

  def attend(self, state, q, project_kv: Callable[[], KV], layer):
    del project_kv
    slots, limits = (self.cache.keys, self.cache.values), causal_limits(self.begin, q)
    o, _ = attend_cache(q, *slots, layer, _from_zero(q), limits, self.backend)
    return o, state


@struct.dataclass
class RecomputedSpan(FrozenSpan):
  """A span whose own K and V are computed again, with their gradient; earlier slots stay frozen."""

  def attend(self, state, q, project_kv: Callable[[], KV], layer):
    slots = self.cache.keys, self.cache.values
    limits = jnp.broadcast_to(self.begin, q.shape[:2])
    prefix = attend_cache(q, *slots, layer, _from_zero(q), limits, self.backend)
    o, _ = merge(*prefix, *_attend_to_themselves(q, slot_major(project_kv())))
    return o, state


@struct.dataclass
class Suffix:
  """Tokens after the context: they see the whole prefix and the suffix up to themselves.

  n suffix rows share each prefix row (rows b*n .. b*n+n-1 belong to prefix row b): they are
  queries of one row there, so the prefix is read once for all of them.

  Attributes:
    prefix: contexts, batch B.
    suffix: R = n*B rows whose next slots this call's tokens take.
    backend: static.
  """

  prefix: PrefixCache
  suffix: SuffixCache
  backend: Backend = struct.field(pytree_node=False, default=Backend())

  def start(self) -> KV:
    # The gradient reaches the K and V of this call, not those that an earlier one has written.
    return frozen(self.suffix.keys), frozen(self.suffix.values)

  def by_prefix(self, q):
    """[R, T, ...] as [B, n*T, ...], the queries of each prefix row."""
    return q.reshape(self.prefix.lengths.shape[0], -1, *q.shape[2:])

  def by_suffix(self, o):
    """The inverse of `by_prefix`."""
    return o.reshape(self.suffix.first.shape[0], -1, *o.shape[2:])

  def prefix_limits(self, q):
    """Limits of queries by prefix row: the whole context."""
    return jnp.broadcast_to(self.prefix.lengths[:, None], q.shape[:2])

  def write(self, state, kv: KV, layer) -> KV:
    """The suffix slots with this call's slot-major K and V in them."""
    # The suffix is short and not split over the context axis: no mesh.
    return tuple(
      write_slots(slots, new, layer, self.suffix.offset, None) for slots, new in zip(state, kv)
    )

  def attend(self, state, q, project_kv: Callable[[], KV], layer):
    kv = slot_major(project_kv())
    state = self.write(state, kv, layer)
    first, offset = self.suffix.first, self.suffix.offset
    window = layer, first, causal_limits(offset, q)
    suffix = attend_written(q, *kv, *state, *window, offset, self.backend)
    rows = self.by_prefix(q)
    window = layer, _from_zero(rows), self.prefix_limits(rows)
    prefix = attend_cache(rows, self.prefix.keys, self.prefix.values, *window, self.backend)
    o, _ = merge(*map(self.by_suffix, prefix), *suffix)
    return o, state
