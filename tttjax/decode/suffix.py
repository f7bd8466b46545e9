"""The suffix: tokens encoded after the frozen context, at the positions that follow it."""

import jax
import jax.numpy as jnp
import numpy as np

from tttjax.attention.caches import SLOT_MULTIPLE, PrefixCache, SuffixCache, empty_slots
from tttjax.attention.phases import Suffix
from tttjax.checks import check_tokens, is_concrete, pad_to
from tttjax.decode.arguments import check_cache
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, Params, variables

_MIN_WIDTH = 32


def check_suffix(model, cache: PrefixCache, tokens, lengths, new_tokens: int, name: str = "tokens"):
  """Checks a suffix [R, S] and returns it padded to a bucket, with int32 lengths [R].

  Arrays or lists; lengths may be None; `name` is what messages call the tokens.

  Raises:
    UserError: no cache, empty rows, ids outside the vocabulary, rows that do not divide over the
      cache's, positions beyond the model's range.
  """
  check_cache(model, cache)
  tokens, lengths = check_tokens(name, tokens, model.config.vocab_size, lengths)
  rows, width = tokens.shape
  batch = cache.lengths.shape[0]
  if rows % batch:
    raise UserError(
      f"{name}: {rows} rows but the cache {batch}: give each cache row as many of them"
    )
  if is_concrete(cache.lengths, cache.positions, lengths):
    # In numpy: nothing compiles, and it also works where a caller's jit closes over the cache.
    ends = np.maximum(np.asarray(cache.lengths) - 1, 0)
    last = int(np.asarray(cache.positions)[np.arange(batch), ends].max()) + 1
    last += int(np.max(lengths)) + new_tokens
    if last > model.config.max_positions:
      parts, more = f"the context and {name}", ""
      if new_tokens:
        parts = f"the context, {name} and {new_tokens} new tokens"
        more = " or lower max_new_tokens"
      raise UserError(
        f"{parts} reach position {last} but max_position_embeddings and YaRN in config.json allow"
        f" {model.config.max_positions}: shorten them{more}"
      )
  bucket = max(_MIN_WIDTH, 1 << (width - 1).bit_length())
  return pad_to(tokens, bucket), jnp.asarray(lengths, jnp.int32)


def new_suffix(
  model: Decoder, cache: PrefixCache, lengths: jax.Array, width: int, new_tokens: int
) -> SuffixCache:
  """Empty slots for a prompt of padded `width` and `new_tokens` more, for len(lengths) rows."""
  rows = lengths.shape[0]
  capacity = -(-(width + new_tokens) // SLOT_MULTIPLE) * SLOT_MULTIPLE
  shape = model.config.slots(rows, capacity)
  keys, values = empty_slots(shape, model.dtype, model.mesh, split=False)
  base = jnp.repeat(cache.next_positions(), rows // cache.lengths.shape[0])
  return SuffixCache(keys, values, width - lengths, base, jnp.zeros((), jnp.int32))


def align_right(tokens: jax.Array, lengths: jax.Array) -> jax.Array:
  """Right-padded tokens [R, S] as left-padded ones, so that all rows end in the same slot."""
  width = tokens.shape[1]
  source = jnp.arange(width, dtype=jnp.int32) - (width - lengths)[:, None]
  return jnp.take_along_axis(tokens, jnp.maximum(source, 0), axis=1)


def align_left(x: jax.Array, lengths: jax.Array, axis: int = 1) -> jax.Array:
  """The inverse of `align_right`, of x [..., R, S, ...] with S at `axis`; 0 beyond the lengths."""
  width = x.shape[axis]
  column = jnp.arange(width, dtype=jnp.int32)
  source = jnp.minimum(column + (width - lengths)[:, None], width - 1)
  like_x = lambda a: a.reshape((1,) * (axis - 1) + a.shape + (1,) * (x.ndim - axis - 1))
  moved = jnp.take_along_axis(x, like_x(source), axis)
  return jnp.where(like_x(column < lengths[:, None]), moved, 0)


def encode(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  suffix: SuffixCache,
  tokens: jax.Array,
  memory: type[Suffix] = Suffix,
  **extra,
):
  """Encodes tokens [R, T] at the suffix's next slots, with the current fast weights.

  `memory` with `extra` fields replaces the plain suffix attention by one that also measures.

  Returns:
    (hidden [R, T, D], the suffix with T more slots, the memory's last state).
  """
  slots = suffix.offset + jnp.arange(tokens.shape[1], dtype=jnp.int32)
  positions = jnp.maximum(suffix.base[:, None] + slots - suffix.first[:, None], 0)
  hidden, state = model.apply(
    variables(params, fast),
    tokens,
    positions,
    memory(cache, suffix, model.backend, **extra),
    method="hidden",
  )
  keys, values = state[:2]
  offset = suffix.offset + tokens.shape[1]
  return hidden, suffix.replace(keys=keys, values=values, offset=offset), state
