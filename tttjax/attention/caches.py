"""The two caches: a frozen prefix shared by everything, and the suffix that grows after it."""

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from tttjax.checks import as_array, check_number, is_concrete, shown
from tttjax.errors import UserError
from tttjax.layouts import row_major
from tttjax.sharding import axis_size, constrain, spec

# Slots are a multiple of this, so that attention can read them in whole blocks.
SLOT_MULTIPLE = 128
_MOST_SLOTS = 2**31 - 1  # they are counted in int32


@struct.dataclass
class PrefixCache:
  """Keys and values of a context: fixed capacity, traced length, not written after prefill.

  Attributes:
    keys, values: [L, B, K, capacity, head_dim]; keys carry their RoPE rotation.
    positions: int32 [B, capacity], RoPE position of each slot (they may jump).
    lengths: int32 [B], slots in use; slots beyond hold no data and are never attended to.
  """

  keys: jax.Array
  values: jax.Array
  positions: jax.Array
  lengths: jax.Array

  @property
  def capacity(self) -> int:
    """Slots, a static number."""
    return self.keys.shape[3]

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

  With slots sharded over the context axis each shard writes the part that is
  its own; partitioning a dynamic update along a sharded axis would gather it.
  """
  zero = jnp.zeros((), jnp.int32)
  size = axis_size(mesh, "context")
  if size == 1 or cache.shape[3] % size:
    start = (layer, zero, zero, offset, zero)
    return row_major(lax.dynamic_update_slice(cache, new[None], start))

  def local(cache, new, layer, offset):
    slots, width = cache.shape[3], min(new.shape[2], cache.shape[3])
    begin = offset - lax.axis_index("context") * slots
    # The window of `width` local slots nearest to the new ones, and what of it is new.
    at = jnp.clip(begin, 0, slots - width)
    source = at + jnp.arange(width, dtype=jnp.int32) - begin
    mine = (source >= 0) & (source < new.shape[2])
    fresh = jnp.take(new, jnp.clip(source, 0, new.shape[2] - 1), axis=2)[None]
    start = (layer, zero, zero, at, zero)
    old = lax.dynamic_slice(cache, start, (1, *cache.shape[1:3], width, cache.shape[4]))
    update = jnp.where(mine[None, None, None, :, None], fresh, old)
    return row_major(lax.dynamic_update_slice(cache, update, start))

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
