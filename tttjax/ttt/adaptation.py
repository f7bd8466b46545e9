"""The public functions of test-time training: one step, all steps, and params in, params out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tttjax.attention.caches import PrefixCache
from tttjax.checks import check_key, check_number, crop, is_concrete, pad_to
from tttjax.decode.arguments import check_model
from tttjax.decode.prefilling import prefill
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, Params
from tttjax.together import program
from tttjax.ttt.adamw import init_optimizer
from tttjax.ttt.history import StepMetrics, check_known, room_for, run_steps
from tttjax.ttt.hyperparameters import TTTConfig, check_config
from tttjax.ttt.spans import check_context, check_starts, sample_start
from tttjax.ttt.step import one_step
from tttjax.ttt.weights import check_trainable, init_fast, merge


def ttt_step(
  model: Decoder,
  params: Params,
  fast: Params,
  opt_state: optax.OptState,
  cache: PrefixCache,
  tokens: jax.Array,
  start: jax.Array,
  cfg: TTTConfig,
) -> tuple[Params, optax.OptState, StepMetrics]:
  """One jitted gradient step on the queries (paper, Algorithm 1), sharded by the model's mesh.

  `jax.jit` with shardings is what used to be called pjit. For several contexts, vmap
  over a leading axis of fast, opt_state, cache, tokens and start.

  Args:
    model, params: the base model, which is not changed.
    fast, opt_state: from `init_fast` and `init_optimizer`, or an earlier step; not donated.
    cache: of one context (batch 1).
    tokens: int [1, T], that context.
    start: int32 scalar, traced: inputs are x[start : start+span].
    cfg: hyperparameters; span, schedule and span_kv are static.

  Returns:
    New fast weights, new optimizer state, metrics of scalars.

  Raises:
    UserError: a concrete span that is not in the context, an argument of another kind. Under
      tracing metrics.ok is False where the span is not in the context.
  """
  check_model(model, params)
  check_config(cfg)
  tokens = check_context(model, cache, tokens, cfg.span)
  start = check_starts(cache, start, cfg.span, scalar=True)
  check_trainable(model, fast, finite=False)
  _check_optimizer(fast, opt_state)
  return _step(model, params, fast, opt_state, cache, tokens, start, cfg.traced())


def adapt(
  model: Decoder,
  params: Params,
  cache: PrefixCache,
  tokens: jax.Array,
  key: jax.Array,
  cfg: TTTConfig,
  starts: jax.Array | None = None,
  fast: Params | None = None,
  opt_state: optax.OptState | None = None,
  first_step: int = 0,
  last_step: int | None = None,
) -> tuple[Params, optax.OptState, StepMetrics]:
  """All N steps of Algorithm 1 in one jitted loop, in place inside it; the caller's arrays stay.

  Args:
    model, params: the base model, which is not changed.
    cache: of one context (batch 1).
    tokens: int [1, T], that context.
    key: PRNG key of the spans: span i starts where fold_in(key, i) says. None with `starts`.
    cfg: hyperparameters; the number of steps is traced.
    starts: int [N], fixes the spans instead; then N is its length and cfg.steps is not used
      except by a schedule.
    fast, opt_state, first_step: continue an earlier call, of the same key, cfg and starts, that
      ended before `first_step`. Given all three, or none; fast alone is where to begin.
    first_step, last_step: static. End before last_step, of the N; None takes them all.

  Returns:
    Fast weights, optimizer state and the history: StepMetrics of arrays [steps taken].

  Raises:
    UserError: a span longer than the context, starts outside it, ids outside the vocabulary, steps
      that are not among the N or not those that follow the given state, an argument of another
      kind.
  """
  check_model(model, params)
  check_config(cfg)
  tokens = check_context(model, cache, tokens, cfg.span)
  check_trainable(model, fast, finite=False)
  if starts is not None:
    starts = check_starts(cache, starts, cfg.span)
  number = cfg.steps if starts is None else starts.shape[0]
  check_known(number)
  last_step = number if last_step is None else last_step
  last_step = check_number("last_step", last_step, 0, number, whole=True, static=True)
  first_step = check_number("first_step", first_step, 0, last_step, whole=True, static=True)
  _check_continuation(fast, opt_state, first_step)
  steps = last_step - first_step
  if starts is not None:
    starts = pad_to(starts[None, first_step:last_step], room_for(steps))[0]
  else:
    room_for(steps)  # raises where they are too many
    check_key("key", key)
  fast, opt_state, history = _adapt(
    model,
    room_for(steps),
    params,
    fast,
    opt_state,
    cache,
    tokens,
    key,
    starts,
    jnp.asarray(first_step, jnp.int32),
    jnp.asarray(steps, jnp.int32),
    cfg.traced(),
  )
  return fast, opt_state, jax.tree.map(lambda x: crop(x, steps), history)


def adapt_params(
  model: Decoder, params: Params, tokens: jax.Array, key: jax.Array, cfg: TTTConfig
) -> Params:
  """Context tokens [1, T] and params in, params with adapted query kernels (float32) out.

  Prefill, adapt and merge in one call, for code that has its own inference.

  Raises:
    UserError: what `prefill` and `adapt` refuse.
  """
  check_config(cfg)
  check_key("key", key)
  cache, _ = prefill(model, params, tokens)
  fast, _, _ = adapt(model, params, cache, tokens, key, cfg)
  return merge(model, params, fast)


def _check_optimizer(fast: Params | None, opt_state) -> None:
  """Raises UserError unless there are fast weights and `opt_state` is of their shapes."""
  if fast is None:
    raise UserError("fast is None: a step continues from init_fast(model, params) or another step")

  def of(tree):
    def form(x):
      try:
        return jnp.shape(x), jnp.result_type(x)
      except TypeError:  # no number
        return type(x)

    return jax.tree.map(form, tree)

  if of(jax.eval_shape(init_optimizer, fast)) != of(opt_state):
    raise UserError(
      "opt_state is not the optimizer state of these fast weights: give what init_optimizer(fast)"
      " or the step before returned"
    )


def _check_continuation(fast: Params | None, opt_state, first_step: int) -> None:
  """Raises UserError where the state given is not one that `first_step` steps may have left.

  It may have counted fewer: a step that is not finite changes nothing, the counts neither.
  """
  remedy = "give fast=fast, opt_state=opt_state and first_step=step of one saved state"
  if first_step and (fast is None or opt_state is None):
    missing = "fast" if fast is None else "opt_state"
    raise UserError(f"first_step is {first_step} but {missing} is None: {remedy}")
  if opt_state is None:
    return
  if fast is None:
    raise UserError(f"opt_state is given but fast is None: {remedy}")
  _check_optimizer(fast, opt_state)
  counts = optax.tree.get_all_with_path(opt_state, "count")
  taken = max((int(np.asarray(x).max()) for _, x in counts if is_concrete(x)), default=0)
  if taken > first_step:
    raise UserError(
      f"opt_state has taken {taken} steps but first_step is {first_step}: {remedy}, or no"
      " opt_state to begin anew from fast"
    )


@program(static=1)
def _step(model, params, fast, opt_state, cache, tokens, start, cfg):
  return one_step(model, params, fast, opt_state, cache, tokens, start, cfg)


@program(static=2)
def _adapt(model, room, params, fast, opt_state, cache, tokens, key, starts, first, steps, cfg):
  # Made here, where nothing else holds them: the loop writes them in place.
  fast = init_fast(model, params) if fast is None else fast
  opt_state = init_optimizer(fast) if opt_state is None else opt_state

  def step(i, fast, opt_state):
    draw = lambda: sample_start(key, first + i, cache.lengths[0], cfg.span)
    start = draw() if starts is None else starts[i]
    return one_step(model, params, fast, opt_state, cache, tokens, start, cfg)

  return run_steps(step, fast, opt_state, steps, room)
