"""AdamW on W_Q + Delta with clipping and a schedule, from optax, with traced hyperparameters."""

import jax
import jax.numpy as jnp
import optax

from tttjax.ttt.hyperparameters import Hyper, Schedule, Static, TTTConfig


def _learning_rate(schedule: Schedule, hyper: Hyper, count: jax.Array) -> jax.Array:
  """float32 learning rate of step `count` (0-based)."""
  done = count / jnp.maximum(hyper.steps, 1)
  factor = {
    "constant": lambda: jnp.ones(()),
    "linear": lambda: jnp.maximum(1 - done, 0),
    "cosine": lambda: 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(done, 1))),
  }[schedule]()
  warm = jnp.minimum((count + 1) / (hyper.warmup_steps + 1), 1)
  return hyper.learning_rate * factor * warm


def optimizer(static: Static, hyper: Hyper) -> optax.GradientTransformationExtraArgs:
  """Clip at the global norm, AdamW, schedule (paper, section 4).

  `update` takes W_Q + Delta as its params, so that the decay pulls W_Q + Delta
  towards zero, as AdamW on W_Q does, and not Delta. The state's structure does not
  depend on the hyperparameters.
  """
  return optax.chain(
    optax.clip_by_global_norm(hyper.clip),
    optax.scale_by_adam(b1=hyper.b1, b2=hyper.b2, eps=hyper.eps),
    optax.add_decayed_weights(hyper.weight_decay),
    optax.scale_by_learning_rate(lambda count: _learning_rate(static.schedule, hyper, count)),
  )


def init_optimizer(cfg: TTTConfig, fast) -> optax.OptState:
  """Optimizer state of the fast weights: two float32 moments and the step counts."""
  return optimizer(cfg.static(), cfg.hyper()).init(fast)
