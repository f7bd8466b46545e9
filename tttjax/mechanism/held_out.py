"""The next-token loss of spans that test-time training did not train on."""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tttjax.attention.caches import PrefixCache
from tttjax.checks import crop, pad_to
from tttjax.models.decoder import Decoder, Params
from tttjax.models.fast_weights import check_fast
from tttjax.together import program
from tttjax.ttt.spans import check_context, check_starts
from tttjax.ttt.step import span_loss

# Results have room for at least this many spans, then powers of two: the number is traced.
_MIN_SPANS = 16


def span_losses(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  tokens: jax.Array,
  starts: jax.Array,
  span: int,
) -> jax.Array:
  """Next-token loss of each span against the frozen cache, no gradient (paper, section 3).

  Args:
    fast: fast weights, or None.
    cache: of one context (batch 1).
    tokens: int [1, T], that context.
    starts: int [n]; span i has inputs x[s : s+span] and targets x[s+1 : s+span+1], s = starts[i].
    span: static.

  Returns:
    float32 [n], mean cross-entropy in nats per token.

  Raises:
    UserError: a span that is not in the context, ids outside the vocabulary, several contexts.
  """
  check_fast(model, fast)
  padded = check_context(model, cache, tokens, span)
  starts = check_starts(cache, starts, span)
  count = starts.shape[0]
  if count == 0:
    return np.zeros(0, np.float32)
  room = max(_MIN_SPANS, 1 << (count - 1).bit_length())
  starts = pad_to(starts[None], room)[0]
  losses = _span_losses(model, span, params, fast, cache, padded, starts, np.int32(count))
  return crop(losses, count)


@program(static=2)
def _span_losses(model, span, params, fast, cache, tokens, starts, count):
  def one(i, losses):
    loss = span_loss(model, params, fast, cache, tokens, starts[i], span)
    return losses.at[i].set(loss)

  return lax.fori_loop(0, count, one, jnp.zeros(starts.shape, jnp.float32))


def held_out_starts(trained_starts, length: int, span: int, count: int, key) -> np.ndarray:
  """Starts of spans whose targets no trained span has, and that share none with each other.

  Args:
    trained_starts: int [N], the starts of the steps (`history.start` of `adapt`).
    length: tokens of the context.
    span: target tokens of a span, of both kinds.
    count: how many are wanted.
    key: PRNG key; the same key draws the same starts.

  Returns:
    int32 [n], ascending, n <= count: fewer, or none, where there is no room.
  """
  starts = np.arange(max(length - span, 0))
  # Targets are s+1 .. s+span: two spans share one where their starts are less than a span apart.
  for taken in np.asarray(trained_starts).reshape(-1):
    starts = starts[np.abs(starts - taken) >= span]
  # numpy's generator: jax's would compile for each number of starts.
  generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
  drawn = []
  while len(drawn) < count and starts.size:
    drawn.append(generator.choice(starts))
    starts = starts[np.abs(starts - drawn[-1]) >= span]
  return np.sort(np.asarray(drawn, np.int32))
