"""The two caches: a frozen prefix shared by everything, and the suffix that grows after it."""

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from tttjax.attention.dealt_slots import TILE, dealt_order, places_before, slot_at, tile_size
from tttjax.checks import as_array, check_number, is_concrete, shown
from tttjax.errors import UserError
from tttjax.layouts import slots_as_entered
from tttjax.sharding import axis_size, constrain, spec

# Slots are a multiple of this, so that attention reads whole blocks and meshes deal whole tiles.
SLOT_MULTIPLE = TILE
_MOST_SLOTS = 2**31 - 1  # they are counted in int32


@struct.dataclass
class PrefixCache:
  """Keys and values of a context: fixed capacity, traced length, not written after prefill.

  Attributes:
    keys, values: [L, B, K, capacity, head_dim], in the order in which slots are dealt out over
      `shards` devices (tttjax.attention.dealt_slots); keys carry their RoPE rotation.
    positions: int32 [B, capacity], RoPE position of each slot (they may jump).
    lengths: int32 [B], slots in use; slots beyond hold no data and are never attended to.
    shards: static, the size of the context axis of the mesh that it was made on.
  """

  keys: jax.Array
  values: jax.Array
  positions: jax.Array
  lengths: jax.Array
  shards: int = struct.field(pytree_node=False, default=1)

  @property
  def capacity(self) -> int:
    """Slots, a static number."""
    return self.keys.shape[3]

  def dealt(self, shards: int) -> "PrefixCache":
    """The same cache for models whose mesh has a context axis of that size.

    Raises:
      UserError: the slots cannot be dealt out over so many devices.
    """
    if shards == self.shards:
      return self
    check_capacity(self.capacity, 0, shards)
    back = np.argsort(dealt_order(self.capacity, self.shards))
    order = back[dealt_order(self.capacity, shards)]
    return self.replace(
      keys=self.keys[..., order, :], values=self.values[..., order, :], shards=shards
    )

  def next_positions(self) -> jax.Array:
    """int32 [B], the RoPE position of the token that follows the context."""
    last = jnp.maximum(self.lengths - 1, 0)
    return jnp.take_along_axis(self.positions, last[:, None], axis=1)[:, 0] + 1

  def rewind(self, tokens: int) -> "PrefixCache":
    """The same cache without its last `tokens` tokens, which may then be encoded again.

    Args:
      tokens: whole number, or integers [B], at least 0; traced ones are not checked.

    Raises:
      UserError: they are no numbers of tokens, or leave a context without any.
    """
    if isinstance(tokens, (list, tuple)):
      tokens = as_array("tokens", tokens)
    if np.ndim(tokens) == 0:
      tokens = check_number("tokens", tokens, 0, _MOST_SLOTS, whole=True)
    shape, dtype = np.shape(tokens), jnp.result_type(tokens)
    if shape not in ((), self.lengths.shape) or not jnp.issubdtype(dtype, np.integer):
      raise UserError(
        f"tokens must be a whole number or integers {list(self.lengths.shape)}, not {dtype}"
        f" {list(shape)}"
      )
    if is_concrete(tokens, self.lengths):
      # int64, where unsigned numbers do not wrap.
      lengths, taken = (np.asarray(x).astype(np.int64) for x in (self.lengths, tokens))
      if (taken < 0).any() or (taken >= lengths).any():
        raise UserError(
          f"cannot rewind {shown(taken.tolist())} tokens of a context of"
          f" {shown(lengths.tolist())}: give at least 0, and leave at least one token"
        )
    return self.replace(lengths=self.lengths - jnp.asarray(tokens, jnp.int32))


@struct.dataclass
class SuffixCache:
  """Keys and values of what follows a context; the rows are aligned at their last prompt token.

  Attributes:
    keys, values: [L, R, K, S, head_dim].
    first: int32 [R], first slot in use.
    base: int32 [R], RoPE position of that slot.
    offset: int32 scalar, next slot to write.
  """

  keys: jax.Array
  values: jax.Array
  first: jax.Array
  base: jax.Array
  offset: jax.Array


def round_capacity(tokens: int, context_shards: int = 1) -> int:
  """Smallest default capacity that holds `tokens`: 1, 1.25 or 1.5 times a power of two.

  Lengths within one capacity share one compiled program.
  """
  multiple = SLOT_MULTIPLE * context_shards
  power = SLOT_MULTIPLE
  while True:
    for quarters in (4, 5, 6):
      candidate = power * quarters // 4
      if candidate >= tokens and candidate % multiple == 0:
        return candidate
    power *= 2


def check_slots(capacity) -> int:
  """A number of slots, which is static, as Python's int; raises UserError where it is none."""
  return check_number("capacity", capacity, 1, _MOST_SLOTS, whole=True, static=True)


def check_capacity(capacity: int, tokens: int, context_shards: int) -> int:
  """The capacity; raises UserError where it does not hold `tokens` or is not in whole blocks."""
  capacity = check_slots(capacity)
  if tokens > capacity:
    raise UserError(
      f"capacity {capacity} is exceeded: the context has {tokens} tokens; give a capacity of at"
      f" least {round_capacity(tokens, context_shards)}"
    )
  multiple = SLOT_MULTIPLE * context_shards
  if capacity % multiple:
    raise UserError(
      f"capacity {capacity} is not a multiple of {multiple} ({SLOT_MULTIPLE} slots x"
      f" {context_shards} context shards); use {-(-capacity // multiple) * multiple}"
    )
  return capacity


def empty_slots(
  shape: tuple[int, int, int, int, int], dtype, mesh: Mesh | None, split: bool
) -> tuple[jax.Array, jax.Array]:
  """Zero keys and values [L, B, K, S, d]; `split` shards the slots over the mesh's context axis."""
  axes = (None, "batch", "kv_heads", "slots" if split else None, None)
  zeros = jnp.zeros(shape, dtype)
  return constrain(zeros, mesh, *axes), constrain(zeros, mesh, *axes)


def write_slots(cache: jax.Array, new: jax.Array, layer, offset, mesh) -> jax.Array:
  """Writes new [B, K, C, d] at (layer, slot offset) of cache [L, B, K, S, d], in place under jit.

  With slots dealt out over the context axis each shard writes the part that is
  its own; partitioning a dynamic update along a sharded axis would gather it.
  """
  zero = jnp.zeros((), jnp.int32)
  size = axis_size(mesh, "context")
  if size == 1 or cache.shape[3] % size:
    start = (layer, zero, zero, offset, zero)
    return slots_as_entered(lax.dynamic_update_slice(cache, new[None], start))

  def local(cache, new, layer, offset):
    places, tokens = cache.shape[3], new.shape[2]
    shard = lax.axis_index("context")
    # A window of places that holds all of the new ones that are this shard's, and which those are.
    turns = -(-tokens // (size * tile_size(places))) + 1
    width = min(tokens, places, turns * tile_size(places))
    at = jnp.clip(places_before(offset, shard, size, places), 0, places - width)
    source = slot_at(at + jnp.arange(width, dtype=jnp.int32), shard, size, places) - offset
    mine = (source >= 0) & (source < tokens)
    fresh = jnp.take(new, jnp.clip(source, 0, tokens - 1), axis=2)[None]
    start = (layer, zero, zero, at, zero)
    old = lax.dynamic_slice(cache, start, (1, *cache.shape[1:3], width, cache.shape[4]))
    update = jnp.where(mine[None, None, None, :, None], fresh, old)
    return slots_as_entered(lax.dynamic_update_slice(cache, update, start))

  cache_spec = spec(mesh, (None, "batch", "kv_heads", "slots", None), cache.shape)
  p = jax.sharding.PartitionSpec
  new_spec = p(cache_spec[1], cache_spec[2], None, None)
  return jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(cache_spec, new_spec, p(), p()),
    out_specs=cache_spec,
    check_vma=False,
  )(cache, new, layer, offset)
