"""Prefill: read the context once, keep every layer's keys and values (paper, section 3, step 1)."""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tttjax.attention.caches import PrefixCache, check_capacity, empty_slots, round_capacity
from tttjax.attention.phases import WritePrefix
from tttjax.checks import as_array, check_tokens, is_concrete, pad_to
from tttjax.decode.arguments import check_model
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, Params, variables
from tttjax.sharding import axis_size, constrain
from tttjax.together import program
from tttjax.vmapped_bounds import greatest

# Tokens encoded at once; the largest chunk up to this that divides the capacity is used. A context
# pays for whole chunks, and each query for all slots up to its chunk's end.
_MAX_CHUNK = 512


def prefill(
  model: Decoder,
  params: Params,
  tokens: jax.Array,
  lengths: jax.Array | None = None,
  capacity: int | None = None,
  positions: jax.Array | None = None,
) -> tuple[PrefixCache, jax.Array]:
  """Encodes contexts into a frozen cache, in chunks: memory is flat in T apart from the cache.

  Args:
    model: the model; its mesh shards the cache.
    params: base weights.
    tokens: int [B, T], right-padded.
    lengths: int [B], tokens of each row; None means T.
    capacity: slots of the cache, static; default the next of 1, 1.25 or 1.5 times a
      power of two, so that contexts of similar length share one compiled program.
    positions: int [B, T], RoPE positions, at least 0 and increasing; None means 0, 1, 2, ... Those
      beyond a row's length are not read.

  Returns:
    The cache, and float32 logits [B, V] of each row's last token.

  Raises:
    UserError: empty input, ids outside the vocabulary, capacity exceeded, positions that do not
      increase or are beyond the model's trained range.
  """
  check_model(model, params)
  config = model.config
  tokens, lengths = check_tokens("the context", tokens, config.vocab_size, lengths)
  batch, width = tokens.shape
  shards = axis_size(model.mesh, "context")
  if capacity is None:
    capacity = round_capacity(width, shards)
  capacity = check_capacity(capacity, width, shards)
  if positions is None:
    last = int(np.max(lengths)) - 1 if is_concrete(lengths) else 0
    positions = np.broadcast_to(np.arange(capacity, dtype=np.int32), (batch, capacity))
  else:
    positions, last = _check_positions(positions, lengths, (batch, width))
    positions = pad_to(positions, capacity)
  if last >= config.max_positions:
    raise UserError(
      f"the context reaches position {last} but max_position_embeddings and YaRN in config.json"
      f" allow {config.max_positions}: shorten it, or configure YaRN for a longer range"
    )
  return _prefill(
    model, params, pad_to(tokens, capacity), jnp.asarray(lengths, jnp.int32), positions
  )


def _check_positions(positions, lengths, shape: tuple[int, int]):
  """The positions as an array, and the last one known, checked as far as the rows are long."""
  positions = as_array("positions", positions)
  if np.shape(positions) != shape:
    raise UserError(f"positions must have the shape of the context, {shape}")
  if not np.issubdtype(positions.dtype, np.integer):
    raise UserError(f"positions must be integers, not {positions.dtype}")
  if not is_concrete(positions):
    return positions, 0
  # The first token of each row is its own whatever its length. int64: a fall wraps in unsigned.
  own = np.asarray(lengths) if is_concrete(lengths) else np.ones(shape[0], np.int64)
  rows = [row[:length] for row, length in zip(np.asarray(positions).astype(np.int64), own)]
  if any(row[0] < 0 or (np.diff(row) <= 0).any() for row in rows):
    raise UserError("positions must be at least 0 and increase from token to token")
  return positions, int(max(row[-1] for row in rows))


@program(static=1)
def _prefill(model, params, tokens, lengths, positions):
  batch, capacity = tokens.shape
  chunk = next(c for c in range(min(_MAX_CHUNK, capacity), 0, -1) if capacity % c == 0)
  shape = model.config.slots(batch, capacity)
  keys, values = empty_slots(shape, model.dtype, model.mesh, split=True)
  placed = constrain(positions, model.mesh, "batch", None)
  cache = PrefixCache(keys, values, placed, lengths, axis_size(model.mesh, "context"))
  last_hidden = jnp.zeros((batch, model.config.hidden_size), model.dtype)

  def encode(index, carry):
    keys, values, last_hidden = carry
    offset = index * chunk
    hidden, (keys, values) = model.apply(
      variables(params, None),
      lax.dynamic_slice_in_dim(tokens, offset, chunk, axis=1),
      lax.dynamic_slice_in_dim(positions, offset, chunk, axis=1),
      WritePrefix(cache.replace(keys=keys, values=values), offset, model.backend),
      method="hidden",
    )
    # Keep the hidden state of each row's last token; its logits are the only ones built.
    at = lengths - 1 - offset
    here = (at >= 0) & (at < chunk)
    row = jnp.take_along_axis(hidden, jnp.clip(at, 0, chunk - 1)[:, None, None], axis=1)[:, 0]
    return keys, values, jnp.where(here[:, None], row, last_hidden)

  chunks = (greatest(lengths.max()) + chunk - 1) // chunk
  keys, values, last_hidden = lax.fori_loop(
    jnp.int32(0), chunks, encode, (keys, values, last_hidden)
  )
  logits = model.apply(variables(params, None), last_hidden, method="logits")
  return cache.replace(keys=keys, values=values), logits
