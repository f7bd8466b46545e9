"""Logits against transformers: float32 and bfloat16, long prompts, all positions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests import reference
from tests.reference import Shape, relative_error
import tttjax as tt

_LENGTH, _PREFIX = 1536, 1024

# rope_theta, GQA group, tying and hidden against heads x head_dim all differ.
_YARN = {
  "rope_type": "yarn",
  "factor": 4.0,
  "original_max_position_embeddings": 512,
}
_LLAMA3 = {
  "rope_type": "llama3",
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 512,
}
SHAPES = {
  "tied, group 1, theta 1e4": Shape(
    hidden=48, heads=3, kv_heads=3, head_dim=16, layers=2, theta=1e4, tied=True
  ),
  "group 3, theta 1e6": Shape(),
  "tied, group 8, theta 5e6": Shape(
    hidden=64, heads=8, kv_heads=1, head_dim=32, layers=2, theta=5e6, tied=True
  ),
  "group 2, YaRN": Shape(
    heads=4, kv_heads=2, head_dim=32, layers=2, theta=1e6, rope_scaling=_YARN, positions=2048
  ),
  "tied, group 1, head_dim 128, YaRN factor given": Shape(
    hidden=32,
    heads=2,
    kv_heads=2,
    head_dim=128,
    layers=2,
    theta=5e6,
    tied=True,
    rope_scaling=_YARN | {"attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0},
    positions=2048,
  ),
  "Llama, tied, group 3, as SmolLM2": Shape(
    hidden=54, heads=9, kv_heads=3, head_dim=16, theta=1e5, tied=True, family="llama"
  ),
  "Llama, group 4, as Llama 3": Shape(
    heads=8, kv_heads=2, head_dim=32, layers=2, theta=5e5, rope_scaling=_LLAMA3, family="llama"
  ),
  "Llama, group 1, theta 1e4": Shape(
    hidden=48, heads=3, kv_heads=3, layers=2, theta=1e4, family="llama"
  ),
  "Qwen2.5, tied, group 7": Shape(
    hidden=56, heads=14, kv_heads=2, head_dim=8, layers=2, tied=True, family="qwen2"
  ),
  "Qwen2.5, group 2, YaRN": Shape(
    heads=4, kv_heads=2, head_dim=32, layers=2, rope_scaling=_YARN, positions=2048, family="qwen2"
  ),
  "Qwen2.5, group 1, theta 1e4": Shape(heads=5, kv_heads=5, head_dim=8, theta=1e4, family="qwen2"),
}


@functools.partial(jax.jit, static_argnums=0)
def _full_logits(model, params, tokens):
  return model.apply({"params": params}, tokens)


@pytest.fixture(scope="module", params=SHAPES.values(), ids=SHAPES.keys())
def case(request):
  """(shape, model, params, tokens, transformers' logits of all positions)."""
  hf, model, params = reference.pair(request.param)
  tokens = reference.random_tokens(np.random.default_rng(1), 1, _LENGTH)
  return request.param, model, params, tokens, reference.hf_logits(hf, tokens)


def test_logits_of_all_positions_equal_transformers(case):
  _, model, params, tokens, expected = case
  assert relative_error(_full_logits(model, params, tokens), expected) < 1e-4


def test_prefill_and_cached_scores_equal_transformers(case):
  _, model, params, tokens, expected = case
  cache, logits = tt.prefill(model, params, tokens[:, :_PREFIX])
  assert relative_error(logits, expected[:, _PREFIX - 1]) < 1e-4
  scores = np.asarray(tt.score(model, params, None, cache, tokens[:, _PREFIX:]))
  wanted = reference.token_logprobs(expected, tokens)[:, _PREFIX:]
  assert np.abs(scores[:, 1:] - wanted).max() < 1e-4 * np.abs(expected).max()


def test_a_wrong_rope_theta_would_show(case):
  shape, _, _, tokens, expected = case
  wrong = reference.hf_model(dataclasses.replace(shape, theta=shape.theta * 2))
  assert relative_error(reference.hf_logits(wrong, tokens), expected) > 1e-2


@pytest.mark.parametrize("ignored", [None, _YARN | {"attention_factor": 1.0}])
def test_ignoring_yarn_or_its_attention_factor_would_show(ignored):
  shape = SHAPES["group 2, YaRN"]
  tokens = reference.random_tokens(np.random.default_rng(1), 1, _LENGTH)
  expected = reference.hf_logits(reference.hf_model(shape), tokens)
  wrong = reference.hf_model(dataclasses.replace(shape, rope_scaling=ignored))
  assert relative_error(reference.hf_logits(wrong, tokens), expected) > 1e-2


def test_scores_after_one_cached_token_cover_every_position(small):
  hf, model, params = small
  tokens = reference.random_tokens(np.random.default_rng(1), 1, 1025)
  expected = reference.hf_logits(hf, tokens)
  cache, _ = tt.prefill(model, params, tokens[:, :1])
  scores = np.asarray(tt.score(model, params, None, cache, tokens[:, 1:]))
  wanted = reference.token_logprobs(expected, tokens)[:, 1:]
  assert np.abs(scores[:, 1:] - wanted).max() < 1e-4 * np.abs(expected).max()


def test_unrolled_layers_give_the_same_logits(small):
  hf, model, params = small
  tokens = reference.random_tokens(np.random.default_rng(1), 1, 64)
  unrolled = _full_logits(model.clone(unroll=True), params, tokens)
  assert relative_error(unrolled, reference.hf_logits(hf, tokens)) < 1e-4


def test_bfloat16_is_as_close_to_float32_as_transformers_bfloat16(small):
  # Both round and neither rounding is right, but ours may not be further from float32.
  hf, model, _ = small
  hf16 = reference.cast(hf, torch.bfloat16)
  params = reference.to_params(hf16, jnp.bfloat16)
  tokens = reference.random_tokens(np.random.default_rng(1), 1, _LENGTH)
  exact = reference.hf_logits(reference.cast(hf16, torch.float32), tokens)
  theirs = reference.hf_logits(hf16, tokens) - exact
  ours = np.asarray(_full_logits(model.clone(dtype=jnp.bfloat16), params, tokens)) - exact
  assert np.linalg.norm(ours) < 1.5 * np.linalg.norm(theirs)
  assert np.abs(ours).max() < 1.5 * np.abs(theirs).max()
