"""Teacher-forced log-probabilities of given tokens after a context."""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from tttjax.attention.caches import PrefixCache
from tttjax.checks import as_array, crop
from tttjax.decode.arguments import check_model
from tttjax.decode.sampling import log_probability
from tttjax.decode.suffix import align_left, align_right, check_suffix, encode, new_suffix
from tttjax.models.decoder import Decoder, Params, variables
from tttjax.models.fast_weights import check_fast

# Columns whose logits [R, columns, V] are held at once.
_COLUMNS = 32


def score(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  tokens: jax.Array,
  lengths: jax.Array | None = None,
) -> jax.Array:
  """log p(tokens[:, i] | context, tokens[:, :i]) with the current fast weights.

  Args:
    fast: fast weights, or None.
    cache: contexts, batch B.
    tokens: int [R, S], right-padded, R = n*B as in `generate`.
    lengths: int [R]; None means S.

  Returns:
    float32 [R, S]. Column 0 is 0: its logits belong to the context's last token, which was
    encoded before adaptation. To score it too give cache.rewind(1) and that token first.
    Columns beyond a row's length are 0.

  Raises:
    UserError: no cache, tokens that are empty or outside the vocabulary, positions beyond the
      model's range, fast weights that are not this model's or not finite.
  """
  check_model(model, params)
  check_fast(model, fast)
  tokens = as_array("tokens", tokens)
  padded, lengths = check_suffix(model, cache, tokens, lengths, 0)
  return crop(_score(model, params, fast, cache, padded, lengths), tokens.shape[1])


@functools.partial(jax.jit, static_argnums=0)
def _score(model, params, fast, cache, tokens, lengths):
  rows, width = tokens.shape
  suffix = new_suffix(model, cache, lengths, width, 0)
  aligned = align_right(tokens, lengths)
  hidden, _, _ = encode(model, params, fast, cache, suffix, aligned)

  def columns(part):
    hidden, targets = part  # [R, C, D], [R, C]
    logits = model.apply(variables(params, None), hidden, method="logits")
    return log_probability(logits, targets)

  split = lambda x: jnp.moveaxis(x.reshape(rows, -1, _COLUMNS, *x.shape[2:]), 1, 0)
  targets = jnp.roll(aligned, -1, axis=1)
  scores = jnp.moveaxis(lax.map(columns, (split(hidden), split(targets))), 0, 1)
  scores = jnp.roll(scores.reshape(rows, width), 1, axis=1)
  return align_left(scores, lengths).at[:, 0].set(0.0)  # column 0 has no score
