"""Choosing one token a row: greedy, temperature, top-k, top-p, min-p."""

import jax
import jax.numpy as jnp

from tttjax.decode.sampling_config import Sampling


def filter_logits(logits: jax.Array, sampling: Sampling) -> jax.Array:
  """Logits / temperature, float32 [R, V], with -inf for what top-k, top-p and min-p remove.

  The order and the definitions are transformers' (each filter sees what the one before kept).
  """
  scaled = logits / jnp.maximum(sampling.temperature, 1e-6)
  ranked = jnp.sort(scaled, axis=-1, descending=True)
  vocab = logits.shape[-1]
  kept = jnp.where(sampling.top_k > 0, jnp.minimum(sampling.top_k, vocab), vocab)
  ranked = jnp.where(jnp.arange(vocab) < kept, ranked, -jnp.inf)
  probabilities = jax.nn.softmax(ranked, axis=-1)
  before = jnp.cumsum(probabilities, axis=-1) - probabilities
  # The token that reaches top_p is kept; the first always is. top_p = 1 keeps all, rounding or not.
  nucleus = (before < sampling.top_p) | (sampling.top_p >= 1) | (jnp.arange(vocab) == 0)
  lowest = jnp.min(jnp.where(nucleus & (ranked > -jnp.inf), ranked, jnp.inf), -1, keepdims=True)
  lowest = jnp.maximum(lowest, ranked[:, :1] + jnp.log(sampling.min_p))
  return jnp.where(scaled >= lowest, scaled, -jnp.inf)


def choose(logits: jax.Array, keys: jax.Array, sampling: Sampling) -> jax.Array:
  """Tokens int32 [R] from float32 logits [R, V], one PRNG key a row; argmax at temperature 0."""

  def sample():
    return jax.vmap(jax.random.categorical)(keys, filter_logits(logits, sampling))

  greedy = lambda: jnp.argmax(logits, axis=-1)
  return jax.lax.cond(sampling.temperature > 0, sample, greedy).astype(jnp.int32)


def log_probability(logits: jax.Array, tokens: jax.Array) -> jax.Array:
  """The model's own log-probability (temperature 1, no filter), float32 [...], of tokens [...]."""
  chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)
