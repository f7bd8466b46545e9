"""Teacher-forced log-probabilities of given tokens after a context."""

import jax
from jax import lax
import jax.numpy as jnp

from tttjax.attention.caches import PrefixCache
from tttjax.checks import as_array, check_tokens, crop, pad_to
from tttjax.decode.arguments import check_model
from tttjax.decode.sampling import log_probability
from tttjax.decode.suffix import align_left, align_right, check_suffix, encode, new_suffix
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, Params, variables
from tttjax.models.fast_weights import check_fast
from tttjax.together import program

# Rows of logits [rows, V] held at once: enough for a matrix product to be worth its name, half a
# gigabyte where there are 151,936 words. A power of two, and no fewer columns than the narrowest
# suffix has.
_LOGITS, _LEAST_COLUMNS = 512, 32


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


def score_targets(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  tokens: jax.Array,
  targets: jax.Array,
  lengths: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """log p(targets[:, i] | context, tokens[:, :i + 1]), and whether no token is likelier.

  As `score`, which gives the tokens themselves as the targets of those before; here the last
  target needs no position of its own.

  Args:
    targets: int [R, S].

  Returns:
    (float32 [R, S], bool [R, S]); 0 and False beyond a row's length.

  Raises:
    UserError: as `score`; targets of another shape or outside the vocabulary.
  """
  check_model(model, params)
  check_fast(model, fast)
  tokens = as_array("tokens", tokens)
  padded, lengths = check_suffix(model, cache, tokens, lengths, 0)
  targets = as_array("targets", targets)
  if targets.shape != tokens.shape:
    raise UserError(f"targets must have the shape {tokens.shape} of tokens, not {targets.shape}")
  targets, _ = check_tokens("targets", targets, model.config.vocab_size, lengths)
  wide = pad_to(targets, padded.shape[1])
  scores, likeliest = _score_targets(model, params, fast, cache, padded, wide, lengths)
  return crop(scores, tokens.shape[1]), crop(likeliest, tokens.shape[1])


@program(static=1)
def _score(model, params, fast, cache, tokens, lengths):
  aligned = align_right(tokens, lengths)
  following = jnp.roll(aligned, -1, axis=1)
  scores, _ = _scored(model, params, fast, cache, aligned, following, lengths)
  scores = align_left(jnp.roll(scores, 1, axis=1), lengths)
  return scores.at[:, 0].set(0.0)  # column 0 has no score


@program(static=1)
def _score_targets(model, params, fast, cache, tokens, targets, lengths):
  aligned = (align_right(x, lengths) for x in (tokens, targets))
  scored = _scored(model, params, fast, cache, *aligned, lengths)
  return tuple(align_left(x, lengths).astype(x.dtype) for x in scored)


def _scored(model, params, fast, cache, tokens, targets, lengths):
  """(log p of the target, whether it is the likeliest) after each of the tokens, right-aligned."""
  rows, width = tokens.shape
  suffix = new_suffix(model, cache, lengths, width, 0)
  hidden, _, _ = encode(model, params, fast, cache, suffix, tokens)

  def columns(part):
    hidden, targets = part  # [R, C, D], [R, C]
    logits = model.apply(variables(params, None), hidden, method="logits")
    return log_probability(logits, targets), jnp.argmax(logits, axis=-1) == targets

  block = _LEAST_COLUMNS
  while rows * block < _LOGITS and width % (2 * block) == 0:
    block *= 2
  split = lambda x: jnp.moveaxis(x.reshape(rows, -1, block, *x.shape[2:]), 1, 0)
  parts = lax.map(columns, (split(hidden), split(targets)))
  return tuple(jnp.moveaxis(part, 0, 1).reshape(rows, width) for part in parts)
