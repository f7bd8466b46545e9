"""Spans of a context: where they start, and that they are in it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tttjax.attention.caches import PrefixCache
from tttjax.checks import as_array, check_number, check_tokens, is_concrete, pad_to
from tttjax.decode.arguments import check_cache
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder
from tttjax.ttt.history import room_for


def sample_start(key: jax.Array, step: jax.Array, length: jax.Array, span: int) -> jax.Array:
  """Uniform start of span `step`, int32 in [0, length - span - 1] (paper, section 3, step 2).

  Span i of a key comes from fold_in(key, i), so a resumed run draws the same spans.
  """
  last = jnp.maximum(length - span - 1, 0)
  return jax.random.randint(jax.random.fold_in(key, step), (), 0, last + 1, jnp.int32)


def sample_starts(key: jax.Array, length: int, span: int, steps: int) -> np.ndarray:
  """The starts int32 [steps] that `adapt` will draw with this key, for counting before it runs."""
  size = room_for(steps)  # few programs, whatever the steps
  return np.asarray(_sample_starts(key, jnp.int32(length), jnp.int32(span), size))[:steps]


@functools.partial(jax.jit, static_argnums=3)
def _sample_starts(key, length, span, size):
  draw = lambda step: sample_start(key, step, length, span)
  return jax.vmap(draw)(jnp.arange(size, dtype=jnp.int32))


def check_context(model: Decoder, cache: PrefixCache, tokens, span: int) -> jax.Array:
  """The tokens of the cache's one context, int32 [1, capacity], padded.

  Raises:
    UserError: several contexts, ids outside the vocabulary, tokens that are not the cache's, a
      span that does not fit in them.
  """
  check_cache(model, cache)
  check_number("span", span, 1, whole=True, static=True)
  if isinstance(span, (jax.Array, np.ndarray)):  # what is static must be hashed
    raise UserError("span is an array: give int(span)")
  tokens, _ = check_tokens("the context", tokens, model.config.vocab_size)
  if cache.lengths.shape != (1,) or tokens.shape[0] != 1:
    raise UserError(
      f"spans are of one context: cache batch {cache.lengths.shape[0]} and tokens"
      f" {tokens.shape} must have batch 1; use jax.vmap over a leading axis for several"
    )
  if tokens.shape[1] > cache.capacity:
    raise UserError(f"{tokens.shape[1]} context tokens do not fit the capacity {cache.capacity}")
  length = _length(cache)
  if span + 1 > length:
    raise UserError(
      f"the span is {span} but the context has {length} tokens: a span needs span + 1 tokens;"
      f" set it to at most {length - 1}"
    )
  if is_concrete(cache.lengths) and tokens.shape[1] < length:
    raise UserError(f"tokens has {tokens.shape[1]} tokens but the cache holds {length}")
  return pad_to(tokens, cache.capacity)


def check_starts(cache: PrefixCache, starts, span: int, scalar: bool = False) -> jax.Array:
  """Starts int32 of spans, [n] or a scalar, each inside the context where it has a value.

  Raises:
    UserError: another shape, starts that are not whole numbers, a span outside the context.
  """
  name, shape = ("start", "()") if scalar else ("starts", "[spans]")
  starts = as_array(name, starts)
  if np.ndim(starts) != (0 if scalar else 1):
    raise UserError(f"{name} must have shape {shape}, not {np.shape(starts)}")
  if starts.size and not np.issubdtype(starts.dtype, np.integer):
    raise UserError(f"{name} must be integer token indices, not {starts.dtype}")
  if is_concrete(starts):
    values, length = np.asarray(starts).reshape(-1), _length(cache)
    outside = values[(values < 0) | (values > length - span - 1)]
    if outside.size:
      raise UserError(
        f"span start {outside[0]} is outside 0..{length - span - 1} (context {length}, span {span})"
      )
    return np.asarray(starts).astype(np.int32)
  # To just outside the context, else the casts and sums of what is far outside wrap into it.
  limits = jnp.iinfo(starts.dtype)
  low, high = max(limits.min, -1), min(limits.max, cache.capacity)
  return jnp.clip(starts, low, high).astype(jnp.int32)


def _length(cache: PrefixCache) -> int:
  """Tokens of the one context, or the most that there can be under tracing."""
  # In numpy: it also works where a caller's jit closes over the cache.
  return int(np.asarray(cache.lengths)[0]) if is_concrete(cache.lengths) else cache.capacity
