"""AdamW with clipping and a schedule, from optax: traced hyperparameters, no harm by a bad step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from tttjax.checks import check_arrays
from tttjax.layouts import row_major
from tttjax.ttt.history import StepMetrics
from tttjax.ttt.hyperparameters import TTTConfig


def _learning_rate(cfg: TTTConfig, count: jax.Array) -> jax.Array:
  """float32 learning rate of step `count` (0-based)."""
  done = count / jnp.maximum(cfg.steps, 1)
  factor = {
    "constant": lambda: jnp.ones(()),
    "linear": lambda: jnp.maximum(1 - done, 0),
    "cosine": lambda: 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(done, 1))),
  }[cfg.schedule]()
  warm = jnp.minimum((count + 1) / (cfg.warmup_steps + 1), 1)
  return cfg.learning_rate * factor * warm


def optimizer(cfg: TTTConfig) -> optax.GradientTransformationExtraArgs:
  """Clip at the global norm, AdamW, schedule (paper, section 4).

  `update` takes W_Q + Delta as its params, so that the decay pulls W_Q + Delta
  towards zero, as AdamW on W_Q does, and not Delta. The state's structure does not
  depend on the hyperparameters.
  """
  return optax.chain(
    optax.clip_by_global_norm(cfg.clip),
    optax.scale_by_adam(b1=cfg.b1, b2=cfg.b2, eps=cfg.eps),
    optax.add_decayed_weights(cfg.weight_decay),
    optax.scale_by_learning_rate(lambda count: _learning_rate(cfg, count)),
  )


def init_optimizer(fast) -> optax.OptState:
  """Optimizer state of the fast weights: two float32 moments and the step counts.

  Raises:
    UserError: `fast` is no tree of arrays.
  """
  check_arrays("fast", fast, "give what init_fast(model, params) returned")
  return optimizer(TTTConfig()).init(fast)


def guarded_update(
  cfg: TTTConfig,
  weights: Any,
  opt_state: optax.OptState,
  decayed: Any,
  loss: jax.Array,
  grads: Any,
  start: jax.Array,
  valid: jax.Array | bool = True,
) -> tuple[Any, optax.OptState, StepMetrics]:
  """One AdamW step on `weights`; weights and state stay where not `valid` or not all is finite.

  Args:
    weights: what the update is added to, float32.
    decayed: of the structure of `weights`, what the weight decay pulls towards zero.
    loss, grads: of this step.
    start: int32 scalar, for the metrics.
    valid: bool scalar, False where the gradient is of no use.

  Returns:
    New weights, new optimizer state, metrics of scalars.
  """
  grads = jax.tree.map(row_major, grads)
  grad_norm = optax.tree.norm(grads)
  updates, new_state = optimizer(cfg).update(grads, opt_state, decayed)
  update_norm = optax.tree.norm(updates)
  ok = valid & jnp.isfinite(loss) & jnp.isfinite(grad_norm) & jnp.isfinite(update_norm)
  keep = lambda new, old: jnp.where(ok, new, old)
  weights = jax.tree.map(lambda w, u: keep(w + u, w), weights, updates)
  opt_state = jax.tree.map(keep, new_state, opt_state)
  return weights, opt_state, StepMetrics(loss, grad_norm, keep(update_norm, 0.0), ok, start)
