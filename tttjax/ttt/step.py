"""Algorithm 1 of the paper: query-only test-time training on a frozen cache.

for n = 1 .. N:
  t   ~ uniform start of a span of k tokens                        (spans.py)
  L   = cross-entropy of x[t+1 : t+k+1] given x[t : t+k] at its absolute positions,
        each query attending causally to the frozen cache           (span_loss)
  W_Q <- AdamW(W_Q, dL/dW_Q), as Delta in float32                   (one_step, adamw.py)
"""

import jax
from jax import lax
import optax

from tttjax.attention.caches import PrefixCache
from tttjax.attention.phases import FrozenSpan, RecomputedSpan
from tttjax.models.decoder import Decoder, Params, variables
from tttjax.ttt.adamw import guarded_update
from tttjax.ttt.history import StepMetrics
from tttjax.ttt.hyperparameters import SpanKV, TTTConfig
from tttjax.ttt.weights import merged_queries


def span_loss(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  tokens: jax.Array,
  start: jax.Array,
  span: int,
  span_kv: SpanKV = "frozen",
) -> jax.Array:
  """Mean next-token cross-entropy of one span against the frozen cache (paper, section 3).

  Args:
    cache: of batch 1.
    tokens: int32 [1, capacity], the context.
    start: int32 scalar t; inputs are x[t : t+k], targets x[t+1 : t+k+1].
    span: k, static.
    span_kv: static, where the span's own K and V come from.

  Returns:
    float32 scalar, nats per token.
  """
  memory = {"frozen": FrozenSpan, "recomputed": RecomputedSpan}[span_kv]
  window = lax.dynamic_slice_in_dim(tokens, start, span + 1, axis=1)
  positions = lax.dynamic_slice_in_dim(cache.positions, start, span, axis=1)
  hidden, _ = model.apply(
    variables(params, fast),
    window[:, :-1],
    positions,
    memory(cache, start, model.backend),
    method="hidden",
  )
  logits = model.apply(variables(params, fast), hidden, method="logits")
  return optax.softmax_cross_entropy_with_integer_labels(logits, window[:, 1:]).mean()


def one_step(
  model: Decoder,
  params: Params,
  fast: Params,
  opt_state: optax.OptState,
  cache: PrefixCache,
  tokens: jax.Array,
  start: jax.Array,
  cfg: TTTConfig,
) -> tuple[Params, optax.OptState, StepMetrics]:
  """One AdamW step on Delta from one span; the fast weights stay as they were where it fails."""
  in_context = (start >= 0) & (start + cfg.span + 1 <= cache.lengths[0])
  loss, grads = jax.value_and_grad(
    lambda fast: span_loss(model, params, fast, cache, tokens, start, cfg.span, cfg.span_kv)
  )(fast)
  decayed = merged_queries(params, fast)
  return guarded_update(cfg, fast, opt_state, decayed, loss, grads, start, in_context)
