"""Algorithm 1 of the paper: query-only test-time training on a frozen cache.

for n = 1 .. N:
  t   ~ uniform start of a span of k tokens                        (spans.py)
  L   = cross-entropy of x[t+1 : t+k+1] given x[t : t+k] at its absolute positions,
        each query attending causally to the frozen cache           (span_loss)
  W_Q <- AdamW(W_Q, dL/dW_Q), as Delta in float32                   (one_step)
"""

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
import optax

from tttjax.attention.caches import PrefixCache
from tttjax.attention.phases import FrozenSpan, RecomputedSpan
from tttjax.models.decoder import Decoder, Params, variables
from tttjax.ttt.adamw import optimizer
from tttjax.ttt.hyperparameters import Hyper, Static
from tttjax.ttt.weights import merged_queries


@struct.dataclass
class StepMetrics:
  """What one step did; of `adapt`, each with a leading axis of steps.

  Attributes:
    loss: float32, mean cross-entropy (nats per token) of the span before the update.
    grad_norm: float32, global norm of the gradient before clipping.
    update_norm: float32, global norm of the change of Delta; 0 where ok is False.
    ok: bool, False where the span was invalid or anything was not finite: Delta is unchanged then.
    start: int32, first input token of the span.
  """

  loss: jax.Array
  grad_norm: jax.Array
  update_norm: jax.Array
  ok: jax.Array
  start: jax.Array


def span_loss(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  tokens: jax.Array,
  start: jax.Array,
  static: Static,
) -> jax.Array:
  """Mean next-token cross-entropy of one span against the frozen cache (paper, section 3).

  Args:
    cache: of batch 1.
    tokens: int32 [1, capacity], the context.
    start: int32 scalar t; inputs are x[t : t+k], targets x[t+1 : t+k+1].

  Returns:
    float32 scalar, nats per token.
  """
  memory = {"frozen": FrozenSpan, "recomputed": RecomputedSpan}[static.span_kv]
  window = lax.dynamic_slice_in_dim(tokens, start, static.span + 1, axis=1)
  positions = lax.dynamic_slice_in_dim(cache.positions, start, static.span, axis=1)
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
  static: Static,
  hyper: Hyper,
) -> tuple[Params, optax.OptState, StepMetrics]:
  """One AdamW step on Delta from one span; the fast weights stay as they were where it fails."""
  in_context = (start >= 0) & (start + static.span + 1 <= cache.lengths[0])
  loss, grads = jax.value_and_grad(
    lambda fast: span_loss(model, params, fast, cache, tokens, start, static)
  )(fast)
  grad_norm = optax.tree.norm(grads)
  tx = optimizer(static, hyper)
  updates, new_state = tx.update(grads, opt_state, merged_queries(params, fast))
  update_norm = optax.tree.norm(updates)
  ok = in_context & jnp.isfinite(loss) & jnp.isfinite(grad_norm) & jnp.isfinite(update_norm)
  keep = lambda new, old: jnp.where(ok, new, old)
  fast = jax.tree.map(lambda d, u: keep(d + u, d), fast, updates)
  opt_state = jax.tree.map(keep, new_state, opt_state)
  return fast, opt_state, StepMetrics(loss, grad_norm, keep(update_norm, 0.0), ok, start)
