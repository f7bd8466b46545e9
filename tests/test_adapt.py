"""The loop of Algorithm 1: its spans, its history, resuming, schedules, vmap, jit and merging."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tests import reference
from tests.reference import norm_error, random_tokens, relative_error, repeating_tokens
import tttjax as tt
from tttjax.models.fast_weights import delta
from tttjax.ttt.adamw import optimizer
from tttjax.ttt.spans import sample_start

_T, _SPAN = 200, 16
_CFG = tt.TTTConfig(steps=6, span=_SPAN, learning_rate=1e-3)
_KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def adapted(small, context):
  """(fast, opt_state, history) of six steps."""
  _, model, params = small
  tokens, cache = context
  return tt.adapt(model, params, cache, tokens, _KEY, _CFG)


def _assert_close(got, wanted, rtol=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7), got, wanted)


def test_history_has_one_entry_a_step(adapted):
  _, _, history = adapted
  assert {name: x.shape for name, x in vars(history).items()} == {
    name: (6,) for name in ("loss", "grad_norm", "update_norm", "ok", "start")
  }
  assert history.ok.all()


def test_adapt_equals_single_steps_with_the_same_starts(small, context, adapted):
  _, model, params = small
  tokens, cache = context
  fast = tt.init_fast(model, params)
  opt_state = tt.init_optimizer(fast)
  steps = []
  for start in adapted[2].start:
    fast, opt_state, metrics = tt.ttt_step(
      model, params, fast, opt_state, cache, tokens, start, _CFG
    )
    steps.append(metrics)
  history = jax.tree.map(lambda *x: np.asarray(x), *steps)
  _assert_close(history, adapted[2])
  assert norm_error(delta(fast), delta(adapted[0])) < 1e-5
  _assert_close(opt_state, adapted[1], rtol=1e-4)


def test_given_starts_replace_the_drawn_ones(small, context, adapted):
  _, model, params = small
  tokens, cache = context
  fast, _, history = tt.adapt(model, params, cache, tokens, None, _CFG, starts=adapted[2].start)
  _assert_close(history, adapted[2])
  assert norm_error(delta(fast), delta(adapted[0])) < 1e-5


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("given", [False, True])
def test_a_resumed_run_equals_one_run(small, context, schedule, given):
  _, model, params = small
  tokens, cache = context
  cfg = dataclasses.replace(_CFG, schedule=schedule, warmup_steps=2)
  starts = np.arange(cfg.steps) * 7 if given else None
  whole = tt.adapt(model, params, cache, tokens, _KEY, cfg, starts)
  fast, opt_state, histories = None, None, []
  for first, last in ((0, 2), (2, 2), (2, 5), (5, None)):
    fast, opt_state, history = tt.adapt(
      model, params, cache, tokens, _KEY, cfg, starts, fast, opt_state, first, last
    )
    histories.append(history)
  joined = jax.tree.map(lambda *x: np.concatenate(x), *histories)
  jax.tree.map(np.testing.assert_array_equal, joined, whole[2])
  jax.tree.map(np.testing.assert_array_equal, (fast, opt_state), whole[:2])


def test_the_loss_of_a_repeated_span_falls(small, context):
  _, model, params = small
  tokens, cache = context
  starts = np.full(20, 91, np.int32)
  _, _, history = tt.adapt(model, params, cache, tokens, None, _CFG, starts=starts)
  assert (np.diff(history.loss) < 0).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_steps_are_exactly_plain_inference(small, context, dtype):
  hf, model, _ = small
  model = model.clone(dtype=jnp.dtype(dtype))
  params = reference.to_params(hf, dtype)
  tokens, _ = context
  cache, logits = tt.prefill(model, params, tokens)
  assert cache.keys.dtype == dtype and logits.dtype == jnp.float32
  none = tt.TTTConfig(steps=0, span=_SPAN)
  fast, _, history = tt.adapt(model, params, cache, tokens, _KEY, none)
  assert history.loss.shape == (0,) and not np.asarray(delta(fast)).any()
  prompt = random_tokens(np.random.default_rng(1), 2, 9)
  sampling = tt.SamplingConfig(max_new_tokens=16, temperature=0.8)
  plain, zero = (tt.generate(model, params, f, cache, prompt, _KEY, sampling) for f in (None, fast))
  jax.tree.map(np.testing.assert_array_equal, plain, zero)
  assert zero.logprobs.dtype == jnp.float32


def test_spans_are_seeded_and_each_step_draws_its_own(small, context, adapted):
  _, model, params = small
  tokens, cache = context
  again = tt.adapt(model, params, cache, tokens, _KEY, _CFG)[2].start
  other = tt.adapt(model, params, cache, tokens, jax.random.key(8), _CFG)[2].start
  np.testing.assert_array_equal(again, adapted[2].start)
  assert (other != again).any() and len(set(again.tolist())) > 1
  drawn = [int(sample_start(_KEY, i, jnp.asarray(_T), _SPAN)) for i in range(6)]
  assert again.tolist() == drawn


def test_span_starts_are_uniform_over_the_whole_context():
  last = 40 - _SPAN - 1
  draw = jax.vmap(lambda i: sample_start(_KEY, i, jnp.asarray(40), _SPAN))
  counts = np.bincount(draw(jnp.arange(20_000)), minlength=last + 1)
  assert len(counts) == last + 1
  assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_weight_decay_pulls_base_plus_delta_to_zero(small, context):
  _, model, params = small
  tokens, cache = context
  # One step from zero moments: decay is the only difference, lr x decay x (W_Q + Delta).
  runs = [
    tt.adapt(
      model,
      params,
      cache,
      tokens,
      None,
      tt.TTTConfig(span=_SPAN, learning_rate=1e-3, weight_decay=decay),
      starts=np.asarray([91]),
    )[0]
    for decay in (0.0, 100.0)
  ]
  kernel = np.asarray(params["layers"]["attention"]["query"]["kernel"])
  np.testing.assert_allclose(delta(runs[1]) - delta(runs[0]), -0.1 * kernel, atol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_schedule_scales_the_updates(schedule):
  # With b1 = 0 and a huge eps AdamW's update is proportional to the gradient.
  cfg = tt.TTTConfig(
    steps=4,
    learning_rate=1e-3,
    weight_decay=0.0,
    b1=0.0,
    eps=1e6,
    schedule=schedule,
    warmup_steps=1,
    clip=np.inf,
  )
  weights = jnp.ones(3)
  state = tt.init_optimizer(weights)
  rates = []
  for _ in range(4):
    updates, state = optimizer(cfg.traced()).update(weights, state, weights)
    rates.append(-float(updates[0]) * 1e6 / 1e-3)
  done = np.arange(4) / 4
  shape = {"constant": done * 0 + 1, "linear": 1 - done, "cosine": (1 + np.cos(np.pi * done)) / 2}
  np.testing.assert_allclose(rates, shape[schedule] * [0.5, 1, 1, 1], rtol=1e-5)


def test_steps_that_diverge_leave_the_fast_weights_finite(small, context):
  _, model, params = small
  tokens, cache = context
  cfg = tt.TTTConfig(steps=6, span=_SPAN, learning_rate=3e38)
  fast, _, history = tt.adapt(model, params, cache, tokens, _KEY, cfg)
  assert not history.ok.all()
  assert (history.update_norm[~history.ok] == 0).all()
  assert np.isfinite(delta(fast)).all()


@pytest.fixture(scope="module")
def two_contexts(small):
  """(stacked tokens [2, 1, T], stacked cache): a leading axis of contexts."""
  _, model, params = small
  rng = np.random.default_rng(12)
  tokens = np.stack([repeating_tokens(rng, _T), repeating_tokens(rng, _T)])
  caches = [tt.prefill(model, params, t)[0] for t in tokens]
  return tokens, jax.tree.map(lambda *x: jnp.stack(x), *caches)


def test_ttt_step_under_vmap_and_a_callers_jit_equals_the_plain_call(small, two_contexts):
  _, model, params = small
  tokens, caches = two_contexts
  fast = tt.init_fast(model, params)
  opt_state = tt.init_optimizer(fast)
  both = lambda tree: jax.tree.map(lambda x: jnp.stack([x, x]), tree)
  step = lambda f, o, c, t, s: tt.ttt_step(model, params, f, o, c, t, s, _CFG)
  starts = np.asarray([3, 91], np.int32)
  got = jax.jit(jax.vmap(step))(both(fast), both(opt_state), caches, tokens, starts)
  for i in range(2):
    one = jax.tree.map(lambda x: x[i], (caches, tokens))
    wanted = step(fast, opt_state, *one, starts[i])
    assert norm_error(delta(got[0])[i], delta(wanted[0])) < 1e-3
    _assert_close(jax.tree.map(lambda x: x[i], got[2]), wanted[2])


def test_adapt_under_vmap_and_a_callers_jit_equals_the_plain_call(small, two_contexts):
  # The second step of the second context is invalid, which tracing cannot refuse: it is skipped.
  _, model, params = small
  tokens, caches = two_contexts
  run = lambda c, t, s: tt.adapt(model, params, c, t, None, _CFG, starts=s)
  starts = np.asarray([[3, 91, 40], [91, _T, 40]], np.int32)
  fast, _, history = jax.jit(jax.vmap(run))(caches, tokens, starts)
  assert history.ok.tolist() == [[True, True, True], [True, False, True]]
  for i in range(2):
    one = jax.tree.map(lambda x: x[i], (caches, tokens))
    ok = np.asarray(history.ok[i])
    wanted = run(*one, starts[i][ok])
    assert norm_error(delta(fast)[i], delta(wanted[0])) < 1e-3
    _assert_close(jax.tree.map(lambda x: x[i][ok], history), wanted[2], rtol=1e-4)


def test_merged_weights_in_transformers_give_the_adapted_logits(small, context, adapted):
  hf, model, params = small
  tokens, cache = context
  suffix = random_tokens(np.random.default_rng(3), 1, 20)
  # The cache is rebuilt the same way: the context with the base weights, the rest with the merged.
  past = reference.hf_cache(hf, tokens)
  merged = copy.deepcopy(hf)
  kernels = tt.merge(model, params, adapted[0])["layers"]["attention"]["query"]["kernel"]
  reference.set_query_kernels(merged, kernels)
  logits = reference.hf_logits(merged, suffix, past_key_values=past)
  wanted = reference.token_logprobs(logits, suffix)
  scores = np.asarray(tt.score(model, params, adapted[0], cache, suffix))
  assert relative_error(scores[:, 1:], wanted) < 1e-4
  assert np.abs(scores - tt.score(model, params, None, cache, suffix)).max() > 1e-2


def test_a_question_encoded_before_adaptation_is_read_by_adapted_queries(small, context, adapted):
  hf, model, params = small
  rng = np.random.default_rng(4)
  question, answer = random_tokens(rng, 1, 12), random_tokens(rng, 1, 8)
  asked = np.concatenate([context[0], question], axis=1)
  # Context and question by the base weights but for the last token, which gives the first logits.
  rest = np.concatenate([question[:, -1:], answer], axis=1)
  cache, _ = tt.prefill(model, params, asked)
  before = np.asarray(tt.score(model, params, adapted[0], cache.rewind(1), rest))[:, 1:]
  merged = copy.deepcopy(hf)
  kernels = tt.merge(model, params, adapted[0])["layers"]["attention"]["query"]["kernel"]
  reference.set_query_kernels(merged, kernels)
  past = reference.hf_cache(hf, asked[:, :-1])
  wanted = reference.token_logprobs(reference.hf_logits(merged, rest, past_key_values=past), rest)
  assert relative_error(before, wanted) < 1e-4
  # The default encodes the question after adaptation, and that is not the same.
  whole = np.concatenate([question, answer], axis=1)
  after = np.asarray(tt.score(model, params, adapted[0], context[1], whole))[:, 12:]
  assert np.abs(after - before).max() > 1e-3


def test_merged_params_equal_base_params_with_fast_weights(small, context, adapted):
  _, model, params = small
  _, cache = context
  suffix = random_tokens(np.random.default_rng(3), 1, 20)
  merged = tt.merge(model, params, adapted[0])
  np.testing.assert_allclose(
    tt.score(model, merged, None, cache, suffix),
    tt.score(model, params, adapted[0], cache, suffix),
    atol=1e-4,
  )


def test_adapt_params_is_prefill_adapt_and_merge(small, context, adapted):
  _, model, params = small
  got = tt.adapt_params(model, params, context[0], _KEY, _CFG)
  jax.tree.map(np.testing.assert_array_equal, got, tt.merge(model, params, adapted[0]))


def test_lists_of_ids_and_starts_are_as_arrays(small, context):
  _, model, params = small
  tokens, cache = context
  run = lambda tokens, starts: tt.adapt(model, params, cache, tokens, None, _CFG, starts=starts)
  given = (tokens, np.asarray([3, 91])), (tokens.tolist(), [3, 91])
  jax.tree.map(np.testing.assert_array_equal, *(run(*x) for x in given))
  losses = lambda tokens, starts: tt.mechanism.span_losses(
    model, params, None, cache, tokens, starts, _SPAN
  )
  np.testing.assert_array_equal(*(losses(*x) for x in given))


def test_a_config_is_a_pytree_of_what_is_traced():
  leaves, tree = jax.tree.flatten(tt.TTTConfig(steps=5, b1=0.5))
  assert set(leaves) == {5, 0.5, *jax.tree.leaves(tt.TTTConfig())} - {32, 0.9}
  assert jax.tree.unflatten(tree, leaves) == tt.TTTConfig(steps=5, b1=0.5)
  structure = lambda **fields: jax.tree.structure(tt.TTTConfig(**fields))
  assert structure(learning_rate=1.0, clip=2.0) == structure() != structure(span=4)
  assert hash(tt.TTTConfig(span=4)) == hash(tt.TTTConfig(span=4))
  for leaf in jax.tree.leaves(tt.TTTConfig().traced()):
    assert leaf.dtype in (jnp.int32, jnp.float32) and not leaf.weak_type
