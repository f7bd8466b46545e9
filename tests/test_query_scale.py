"""Scaled queries against transformers with a scaled query norm, on the plain model's cache."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests import reference
from tests.reference import random_tokens
import tttjax as tt
from tttjax.models.decoder import Attention
from tttjax.models.fast_weights import delta, has_delta
from tttjax.models.rope import no_rotations, rotate, rotations
from tttjax.ttt.weights import scaled_queries

_SCALE, _T, _S = 1.6, 150, 12


@pytest.fixture(scope="module")
def case(small):
  """(context [1, 150], cache, suffix [1, 12])."""
  _, model, params = small
  rng = np.random.default_rng(71)
  context = random_tokens(rng, 1, _T)
  return context, tt.prefill(model, params, context)[0], random_tokens(rng, 1, _S)


def _scaled(hf, kernels=None):
  """A copy whose queries are scaled, and whose query kernels are `kernels` if given."""
  hf = copy.deepcopy(hf)
  with torch.no_grad():
    for layer in hf.model.layers:
      layer.self_attn.q_norm.weight.mul_(_SCALE)
  if kernels is not None:
    reference.set_query_kernels(hf, kernels)
  return hf


def _adapted(model, params):
  like = tt.init_fast(model, params)
  return jax.tree.map(lambda d: 0.1 * jax.random.normal(jax.random.key(1), d.shape), like)


def _logits(hf, scaled, context, suffix):
  """Logits [S, V] of the suffix by `scaled` after a context cached by `hf`."""
  with torch.no_grad():
    past = reference.hf_cache(hf, context)
    return scaled(reference.torch_ids(suffix), past_key_values=past).logits[0].numpy()


def _logprobs(hf, scaled, context, suffix):
  logits = _logits(hf, scaled, context, suffix)[None]
  return reference.token_logprobs(logits, suffix)


def test_scores_equal_transformers_on_the_unscaled_cache(small, case):
  hf, model, params = small
  context, cache, suffix = case
  got = tt.score(model, params, scaled_queries(model, _SCALE), cache, suffix)
  np.testing.assert_allclose(got[:, 1:], _logprobs(hf, _scaled(hf), context, suffix), atol=2e-4)
  assert np.abs(got - tt.score(model, params, None, cache, suffix)).max() > 0.01


def test_generation_equals_transformers_on_the_unscaled_cache(small, case):
  hf, model, params = small
  context, cache, suffix = case
  sampling = tt.SamplingConfig(max_new_tokens=8, temperature=0.0)
  fast = scaled_queries(model, _SCALE)
  got = tt.generate(model, params, fast, cache, suffix, jax.random.key(0), sampling)
  scaled, tokens = _scaled(hf), suffix
  for _ in range(8):
    best = _logits(hf, scaled, context, tokens)[-1].argmax()
    tokens = np.append(tokens, [[best]], axis=1)
  np.testing.assert_array_equal(got.tokens[0], tokens[0, _S:])


def test_scale_and_delta_together_equal_transformers(small, case):
  hf, model, params = small
  context, cache, suffix = case
  fast = _adapted(model, params)
  kernels = tt.merge(model, params, fast)["layers"]["attention"]["query"]["kernel"]
  both = scaled_queries(model, _SCALE, fast)
  got = tt.score(model, params, both, cache, suffix)
  expected = _logprobs(hf, _scaled(hf, kernels), context, suffix)
  np.testing.assert_allclose(got[:, 1:], expected, atol=2e-4)
  np.testing.assert_array_equal(delta(both), delta(fast))


def test_what_holds_a_delta(small):
  _, model, params = small
  scale, fast = scaled_queries(model, _SCALE), tt.init_fast(model, params)
  assert has_delta(fast) and has_delta(scaled_queries(model, 1.0, fast))
  assert not has_delta(scale) and not has_delta(None)


def test_a_scale_of_one_changes_nothing(small, case):
  _, model, params = small
  _, cache, suffix = case
  got = tt.score(model, params, scaled_queries(model, 1.0), cache, suffix)
  np.testing.assert_allclose(got, tt.score(model, params, None, cache, suffix), atol=1e-6)


def test_another_scale_compiles_nothing_new(small, case, compilations):
  _, model, params = small
  _, cache, suffix = case
  tt.score(model, params, scaled_queries(model, _SCALE), cache, suffix)
  before = compilations()
  tt.score(model, params, scaled_queries(model, 0.5), cache, suffix)
  assert compilations() == before


def test_a_traced_scale_gives_what_the_number_gives(small, case):
  _, model, params = small
  _, cache, suffix = case
  score = jax.jit(lambda s: tt.score(model, params, scaled_queries(model, s), cache, suffix))
  expected = tt.score(model, params, scaled_queries(model, _SCALE), cache, suffix)
  np.testing.assert_allclose(score(_SCALE), expected, atol=1e-5)


class _Queries:
  """A memory that keeps the queries it is asked with as its state, and attends to nothing."""

  def attend(self, state, q, project_kv, layer):
    del state, project_kv, layer
    return jnp.zeros(q.shape, jnp.float32), q


def test_bfloat16_queries_stay_bfloat16_and_are_rounded_once(small, rng):
  _, model, params = small
  x = jnp.asarray(rng.normal(size=(1, _S, model.config.hidden_size)), jnp.bfloat16)
  layer = jax.tree.map(lambda p: p[0].astype(jnp.bfloat16), params["layers"]["attention"])
  attention = Attention(model.config, jnp.bfloat16, None)

  def queries(fast, rope):
    variables = {"params": layer} | ({"ttt": fast} if fast else {})
    o, q = attention.apply(variables, x, None, rope, _Queries(), 0)
    assert o.dtype == q.dtype == jnp.bfloat16
    return q

  fast = {"query_scale": jnp.float32(_SCALE)}
  positions = jnp.arange(_S)[None]
  plain = queries(None, no_rotations(positions))
  expected = (_SCALE * plain.astype(jnp.float32)).astype(jnp.bfloat16)
  np.testing.assert_array_equal(queries(fast, no_rotations(positions)), expected)
  rope = rotations(model.config, positions)
  exact = _SCALE * rotate(plain.astype(jnp.float32), *rope)
  np.testing.assert_allclose(queries(fast, rope).astype(jnp.float32), exact, rtol=2**-8)


def test_scores_of_a_bfloat16_model_with_a_scale(small, case):
  _, model, params = small
  context, _, suffix = case
  half = model.clone(dtype=jnp.bfloat16)
  cut = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
  wide = jax.tree.map(lambda p: p.astype(jnp.float32), cut)
  cache, _ = tt.prefill(half, cut, context)
  assert cache.keys.dtype == jnp.bfloat16
  got = tt.score(half, cut, scaled_queries(half, _SCALE), cache, suffix)
  exact = tt.prefill(model, wide, context)[0]
  expected = tt.score(model, wide, scaled_queries(model, _SCALE), exact, suffix)
  assert got.dtype == np.float32
  assert reference.norm_error(got, expected) < 0.05


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan, np.ones(3)], ids=str)
def test_other_scales_are_refused(small, scale):
  with pytest.raises(tt.UserError, match="scale must be"):
    scaled_queries(small[1], scale)


def test_training_and_merging_refuse_a_scale(small, case):
  _, model, params = small
  context, cache, _ = case
  fast = scaled_queries(model, _SCALE, tt.init_fast(model, params))
  with pytest.raises(tt.UserError, match="apply the scale afterwards"):
    tt.merge(model, params, fast)
  with pytest.raises(tt.UserError, match="apply the scale afterwards"):
    cfg = tt.TTTConfig(steps=1, span=16)
    tt.adapt(model, params, cache, context, jax.random.key(0), cfg, fast=fast)
