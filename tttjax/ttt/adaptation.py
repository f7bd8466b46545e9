"""The public functions of test-time training: one step, all steps, and params in, params out."""

import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

from tttjax.attention.caches import PrefixCache
from tttjax.checks import check_tokens, crop, is_concrete, pad_to
from tttjax.decode.prefilling import prefill
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, Params
from tttjax.ttt.adamw import init_optimizer
from tttjax.ttt.hyperparameters import TTTConfig
from tttjax.ttt.spans import sample_start
from tttjax.ttt.step import StepMetrics, one_step
from tttjax.ttt.weights import init_fast, merge

# History buffers have at least this many steps, then powers of two: the number of
# steps is traced, and only a larger buffer compiles again.
_MIN_HISTORY = 64


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
    cfg: static are span, schedule and span_kv; everything else is traced.

  Returns:
    New fast weights, new optimizer state, metrics of scalars.

  Raises:
    UserError: a concrete span that is not in the context. Under tracing metrics.ok is False.
  """
  tokens = _check(model, cache, tokens, cfg)
  if is_concrete(start, cache.lengths):
    _check_starts(np.asarray(start).reshape(-1), _length(cache), cfg.span)
  start = jnp.asarray(start, jnp.int32)
  return _step(model, cfg.static(), params, fast, opt_state, cache, tokens, start, cfg.hyper())


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
) -> tuple[Params, optax.OptState, StepMetrics]:
  """All N steps of Algorithm 1 in one jitted loop, in place inside it; the caller's arrays stay.

  Args:
    model, params: the base model, which is not changed.
    cache: of one context (batch 1).
    tokens: int [1, T], that context.
    key: PRNG key of the spans: span i starts where fold_in(key, i) says.
    cfg: hyperparameters; the number of steps is traced.
    starts: int [N], fixes the spans instead; then N is its length and cfg.steps is not used
      except by a schedule.
    fast, opt_state, first_step: continue an earlier call that ended before `first_step`.

  Returns:
    Fast weights, optimizer state and the history: StepMetrics of arrays [N].

  Raises:
    UserError: a span longer than the context, starts outside it, ids outside the vocabulary.
  """
  tokens = _check(model, cache, tokens, cfg)
  if starts is not None:
    if np.ndim(starts) != 1:
      raise UserError(f"starts must have shape [steps], not {np.shape(starts)}")
    if is_concrete(starts, cache.lengths):
      _check_starts(np.asarray(starts), _length(cache), cfg.span)
  fast = init_fast(model, params) if fast is None else fast
  opt_state = init_optimizer(cfg, fast) if opt_state is None else opt_state
  steps = cfg.steps if starts is None else starts.shape[0]
  buffer = max(_MIN_HISTORY, 1 << max(steps - 1, 0).bit_length())
  if starts is not None:
    starts = pad_to(starts[None], buffer)[0]
  fast, opt_state, history = _adapt(
    model,
    cfg.static(),
    buffer,
    params,
    fast,
    opt_state,
    cache,
    tokens,
    key,
    starts,
    jnp.asarray(first_step, jnp.int32),
    jnp.asarray(steps, jnp.int32),
    cfg.hyper(),
  )
  return fast, opt_state, jax.tree.map(lambda x: crop(x, steps), history)


def adapt_params(
  model: Decoder, params: Params, tokens: jax.Array, key: jax.Array, cfg: TTTConfig
) -> Params:
  """Context tokens [1, T] and params in, params with adapted query kernels (float32) out.

  Prefill, adapt and merge in one call, for code that has its own inference.
  """
  cache, _ = prefill(model, params, tokens)
  fast, _, _ = adapt(model, params, cache, tokens, key, cfg)
  return merge(model, params, fast)


def _length(cache: PrefixCache) -> int:
  """Tokens in a concrete cache of one context, also where a caller's jit closes over it."""
  return int(np.asarray(cache.lengths)[0])


def _check(model: Decoder, cache: PrefixCache, tokens: jax.Array, cfg: TTTConfig) -> jax.Array:
  """Checks what has a value, and returns the tokens padded to the capacity."""
  check_tokens("the context", tokens, model.config.vocab_size)
  if cache.lengths.shape != (1,) or tokens.shape[0] != 1:
    raise UserError(
      f"test-time training takes one context: cache batch {cache.lengths.shape[0]} and tokens"
      f" {tokens.shape} must have batch 1; use jax.vmap over a leading axis for several"
    )
  if tokens.shape[1] > cache.capacity:
    raise UserError(f"{tokens.shape[1]} context tokens do not fit the capacity {cache.capacity}")
  if cfg.span + 1 > cache.capacity:
    raise UserError(f"TTTConfig.span {cfg.span} is longer than the capacity {cache.capacity}")
  if is_concrete(cache.lengths):
    length = _length(cache)
    if cfg.span + 1 > length:
      raise UserError(
        f"TTTConfig.span is {cfg.span} but the context has {length} tokens: a span needs span + 1"
        f" tokens; set it to at most {length - 1}"
      )
    if tokens.shape[1] < length:
      raise UserError(f"tokens has {tokens.shape[1]} tokens but the cache holds {length}")
  return pad_to(tokens, cache.capacity)


def _check_starts(starts: np.ndarray, length: int, span: int) -> None:
  last = length - span - 1
  if starts.size and (starts.min() < 0 or starts.max() > last):
    bad = starts[(starts < 0) | (starts > last)][0]
    raise UserError(f"span start {bad} is outside 0..{last} (context {length}, span {span})")


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step(model, static, params, fast, opt_state, cache, tokens, start, hyper):
  return one_step(model, params, fast, opt_state, cache, tokens, start, static, hyper)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _adapt(
  model, static, buffer, params, fast, opt_state, cache, tokens, key, starts, first, steps, hyper
):
  def start_of(i):
    if starts is not None:
      return starts[i]
    return sample_start(key, first + i, cache.lengths[0], static.span)

  def step(i, carry):
    fast, opt_state, history = carry
    fast, opt_state, metrics = one_step(
      model, params, fast, opt_state, cache, tokens, start_of(i), static, hyper
    )
    history = jax.tree.map(lambda all_, one: all_.at[i].set(one), history, metrics)
    return fast, opt_state, history

  zeros = lambda dtype: jnp.zeros((buffer,), dtype)
  f32 = jnp.float32
  history = StepMetrics(zeros(f32), zeros(f32), zeros(f32), zeros(bool), zeros(jnp.int32))
  return lax.fori_loop(0, steps, step, (fast, opt_state, history))
