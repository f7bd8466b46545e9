"""Fast weights that are none, or are not finite: refused where they enter, never ignored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference
from tests.errors import user_error
from tests.reference import random_tokens
import tttjax as tt

_KEY = jax.random.key(0)
_CFG = tt.TTTConfig(steps=2, span=16)
_SAMPLING = tt.SamplingConfig(max_new_tokens=4)
_PATH = "layers/attention/query/delta"


@pytest.fixture(scope="module")
def case(small, context):
  """(model, params, context's tokens, cache, prompt [2, 9], evidence [2, 200])."""
  _, model, params = small
  prompt = random_tokens(np.random.default_rng(71), 2, 9)
  return model, params, *context, prompt, np.ones((2, 200), bool)


def _calls(case, directory=None):
  """Every public function that takes fast weights, by name, as a function of them."""
  model, params, tokens, cache, prompt, evidence = case
  mechanism = tt.mechanism
  first = lambda parts: next(iter(parts))
  opt_state = lambda: tt.init_optimizer(tt.init_fast(model, params))
  return {
    "generate": lambda f: tt.generate(model, params, f, cache, prompt, _KEY, _SAMPLING),
    "stream": lambda f: first(tt.stream(model, params, f, cache, prompt, _KEY, _SAMPLING)),
    "beam_search": lambda f: tt.beam_search(model, params, f, cache, prompt, _SAMPLING, 2),
    "score": lambda f: tt.score(model, params, f, cache, prompt),
    "attention_statistics": lambda f: mechanism.attention_statistics(
      model, params, f, cache, prompt, None, evidence
    ),
    "attention_mass": lambda f: mechanism.attention_mass(
      model, params, f, cache, prompt, None, evidence
    ),
    "query_step_check": lambda f: mechanism.query_step_check(
      model, params, f, cache, prompt, None, evidence, 0, [0.1]
    ),
    "span_losses": lambda f: mechanism.span_losses(model, params, f, cache, tokens, [3], 16),
    "merge": lambda f: tt.merge(model, params, f),
    "scaled_queries": lambda f: tt.scaled_queries(model, 1.5, f),
    "export": lambda f: tt.export(directory, model, params, fast=f),
    "adapt": lambda f: tt.adapt(model, params, cache, tokens, _KEY, _CFG, fast=f),
    "ttt_step": lambda f: tt.ttt_step(model, params, f, opt_state(), cache, tokens, 3, _CFG),
  }


_NAMES = tuple(_calls((None,) * 6))


def _with_delta(delta):
  return {"layers": {"attention": {"query": {"delta": delta}}}}


def _delta(case):
  model, params, *_ = case
  return np.zeros(params["layers"]["attention"]["query"]["kernel"].shape, np.float32)


@pytest.mark.parametrize("name", _NAMES)
def test_what_is_no_fast_weights_is_refused_with_the_first_path_that_differs(
  case, tmp_path, compilations, name
):
  call, delta = _calls(case, tmp_path / "out")[name], _delta(case)
  typo = {"layers": {"attention": {"query": {"dleta": delta}}}}
  scale = {"layers": {"attention": {"query_scale": np.ones(2, np.float32)}}}
  before = compilations()
  for wrong, words in (
    ({}, (_PATH, "missing")),
    ({"layers": {"attention": {}}}, (_PATH, "missing")),
    (case[1], ("embed/embedding", "no fast weight")),
    (typo, ("layers/attention/query/dleta", "no fast weight")),
    (_with_delta(delta) | {"step": np.int32(3)}, ("step", "no fast weight")),
    (_with_delta(delta[:2]), (_PATH, "[2, 40, 6, 16]", "float32 [3, 40, 6, 16]")),
    (_with_delta(delta.astype(jnp.bfloat16)), (_PATH, "bfloat16")),
    (scale, ("layers/attention/query_scale", "float32 [2]", "float32 [3]")),
    (delta, ("ndarray", "no fast weight")),
  ):
    with user_error(*words):
      call(wrong)
  assert name == "ttt_step" or compilations() == before


def test_wrong_fast_weights_are_refused_under_tracing_too(case):
  model, params, _, cache, prompt, _ = case
  score = jax.jit(lambda fast: tt.score(model, params, fast, cache, prompt))
  with user_error("embed/embedding"):
    score(params)
  with user_error(_PATH, "[2, 40, 6, 16]"):
    score(_with_delta(_delta(case)[:2]))


# adapt and ttt_step say it in metrics.ok (tests/test_ttt_step.py).
@pytest.mark.parametrize("name", [n for n in _NAMES if n not in ("adapt", "ttt_step")])
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_fast_weights_that_are_not_finite_are_refused(case, tmp_path, name, value):
  broken = _delta(case)
  broken[1, 2, 3, 4] = value
  for array in (broken, jnp.asarray(broken)):
    with user_error(_PATH, "not finite"):
      _calls(case, tmp_path / "out")[name](_with_delta(array))


def test_fast_weights_that_a_callers_jit_closes_over_are_checked_too(case):
  model, params, _, cache, prompt, _ = case
  fast = tt.init_fast(model, params)
  broken = jax.tree.map(lambda d: d.at[0].set(jnp.nan), fast)
  score = lambda fast: jax.jit(lambda prompt: tt.score(model, params, fast, cache, prompt))(prompt)
  assert np.isfinite(score(fast)).all()
  with user_error(_PATH, "not finite"):
    score(broken)


def test_under_tracing_nan_shows_in_every_result(case):
  model, params, *_ = case
  broken = _with_delta(jnp.asarray(_delta(case)).at[1].set(jnp.nan))
  calls = _calls(case)
  for name in ("generate", "beam_search"):
    result = jax.jit(calls[name])(broken)
    assert result.lengths.tolist() == [1, 1], name
    assert (result.tokens == -1).all() and np.isnan(result.logprobs[:, 0]).all(), name
    assert (result.logprobs[:, 1:] == 0).all(), name
  assert np.isnan(result.scores).all()
  assert np.isnan(jax.jit(calls["score"])(broken)[:, 1:]).all()
  assert np.isnan(jax.jit(calls["span_losses"])(broken)).all()


def test_a_row_that_stays_finite_is_not_touched_by_one_that_does_not(case):
  model, params, _, cache, prompt, _ = case
  plain = tt.generate(model, params, None, cache, prompt, _KEY, _SAMPLING)
  token = int(prompt[1, 4])
  assert token not in np.asarray(prompt[0]) and token not in np.asarray(plain.tokens[0])
  embedding = params["embed"]["embedding"].at[token].set(jnp.nan)
  broken = params | {"embed": {"embedding": embedding}}
  result = tt.generate(model, broken, None, cache, prompt, _KEY, _SAMPLING)
  assert result.tokens[1].tolist() == [-1] * 4 and np.isnan(result.logprobs[1, 0])
  np.testing.assert_array_equal(result.tokens[0], plain.tokens[0])
  np.testing.assert_allclose(result.logprobs[0], plain.logprobs[0], atol=1e-6)


def test_merging_no_fast_weights_gives_the_base_queries_in_float32(small):
  _, model, params = small
  half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), params)
  merged = tt.merge(model.clone(dtype=jnp.bfloat16), half, None)
  kernel = merged["layers"]["attention"]["query"]["kernel"]
  assert kernel.dtype == jnp.float32
  base = half["layers"]["attention"]["query"]["kernel"]
  np.testing.assert_array_equal(kernel, base.astype(jnp.float32))
  assert jax.tree.structure(merged) == jax.tree.structure(half)
  zero = tt.merge(model, params, tt.init_fast(model, params))
  jax.tree.map(np.testing.assert_array_equal, tt.merge(model, params, None), zero)


def test_merged_queries_keep_the_bias_that_a_model_has():
  _, model, params = reference.pair(reference.Shape(family="qwen2"))
  tokens = random_tokens(np.random.default_rng(72), 1, 40)
  for fast in (None, tt.init_fast(model, params)):
    merged = tt.merge(model, params, fast)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    logits = [tt.prefill(model, p, tokens)[1] for p in (params, merged)]
    np.testing.assert_allclose(*logits, atol=1e-6)
