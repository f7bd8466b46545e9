"""RoPE and YaRN against transformers."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.qwen3 import modeling_qwen3
from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

from tests import reference
from tests.reference import Shape, random_tokens
import tttjax as tt
from tttjax.models.rope import inverse_frequencies, rotate, rotations

_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
_LLAMA3 = {
  "rope_type": "llama3",
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 8192,
}
CASES = {
  "theta 1e4": Shape(theta=1e4),
  "theta 1e6": Shape(theta=1e6, head_dim=128),
  "theta 5e6": Shape(theta=5e6, head_dim=32),
  "YaRN": Shape(head_dim=64, rope_scaling=_YARN),
  "YaRN as Qwen3's": Shape(
    head_dim=128, rope_scaling=_YARN | {"original_max_position_embeddings": 32768}, positions=131072
  ),
  "YaRN, bounds given": Shape(
    head_dim=128,
    rope_scaling=_YARN | {"beta_fast": 20.0, "beta_slow": 2.0, "attention_factor": 1.2},
  ),
  "YaRN, not truncated": Shape(head_dim=128, rope_scaling=_YARN | {"truncate": False}),
  "Llama 3.1": Shape(head_dim=128, rope_scaling=_LLAMA3, theta=5e5, family="llama"),
  "Llama 3.2": Shape(
    head_dim=64, rope_scaling=_LLAMA3 | {"factor": 32.0}, theta=5e5, family="llama"
  ),
  "Llama 3, short": Shape(
    head_dim=32, rope_scaling=_LLAMA3 | {"original_max_position_embeddings": 100}, family="llama"
  ),
  "YaRN, one-dimension ramp": Shape(
    head_dim=16, rope_scaling=_YARN | {"beta_fast": 1.0, "beta_slow": 1.0, "truncate": False}
  ),
}


def _rotary(shape):
  """transformers' rotary embedding of a shape with one small layer."""
  tiny = Shape(
    2, 1, 1, shape.head_dim, 2, 1, 2, shape.theta, True, shape.rope_scaling, shape.positions
  )
  return reference.hf_model(tiny).model.rotary_emb


@pytest.mark.parametrize("shape", CASES.values(), ids=CASES.keys())
def test_frequencies_and_factor_equal_transformers(shape):
  rotary = _rotary(shape)
  frequencies, factor = inverse_frequencies(reference.model_config(shape))
  theirs = rotary.inv_freq.numpy()
  # torch's vectorised float32 power rounds one near-tie the other way.
  np.testing.assert_array_max_ulp(frequencies, theirs, maxulp=1)
  assert (frequencies != theirs).sum() <= 1
  assert factor == pytest.approx(rotary.attention_scaling, rel=1e-7)


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("theta", [1e4, 1e6, 5e6, 1e7])
def test_every_bit_of_the_frequencies_is_the_correctly_rounded_powers(theta, head_dim):
  exponents = torch.arange(0, head_dim, 2).float() / head_dim  # transformers' own
  expected = 1.0 / (theta ** exponents.double()).float()
  config = reference.model_config(Shape(theta=theta, head_dim=head_dim))
  np.testing.assert_array_equal(inverse_frequencies(config)[0], expected.numpy())


def test_logits_at_far_positions_equal_transformers(rng):
  shape = Shape(layers=2, heads=2, kv_heads=1, head_dim=128, positions=40960)
  hf, model, params = reference.pair(shape)
  tokens = random_tokens(rng, 1, 60)
  # Near and far at once: a common shift would cancel in the scores.
  positions = np.concatenate([np.arange(30), np.arange(40870, 40900)])[None].astype(np.int32)
  causal = torch.ones(60, 60).tril().bool()[None, None]
  expected = reference.hf_logits(
    hf, tokens, position_ids=torch.tensor(positions), attention_mask=causal
  )[:, -1]
  _, logits = tt.prefill(model, params, tokens, positions=positions)
  np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("shape", CASES.values(), ids=CASES.keys())
def test_cos_and_sin_equal_transformers(shape):
  positions = np.concatenate([np.arange(64), np.arange(0, 4096, 61)])[None].astype(np.int32)
  expected = _rotary(shape)(torch.zeros(1), torch.tensor(positions))
  half = shape.head_dim // 2
  got = rotations(reference.model_config(shape), jnp.asarray(positions))
  for ours, theirs in zip(got, expected):
    # One ulp of a frequency is 4096 x 6e-8 radians at the last position.
    np.testing.assert_allclose(ours[:, :, 0], theirs[..., :half], atol=5e-4)
    np.testing.assert_allclose(ours[:, :64, 0], theirs[:, :64, :half], atol=1e-5)


def test_rotation_equals_transformers(rng):
  shape = Shape()
  x = rng.normal(size=(2, 50, 3, shape.head_dim)).astype(np.float32)
  positions = np.sort(rng.integers(0, 2000, (2, 50))).astype(np.int32)
  cos, sin = _rotary(shape)(torch.zeros(1), torch.tensor(positions))
  expected, _ = apply_rotary_pos_emb(torch.tensor(x), torch.tensor(x), cos, sin, unsqueeze_dim=2)
  got = rotate(jnp.asarray(x), *rotations(reference.model_config(shape), jnp.asarray(positions)))
  np.testing.assert_allclose(got, expected, atol=5e-4)


def test_scores_depend_on_the_distance_alone(rng):
  config = reference.model_config(Shape())
  q, k = jnp.asarray(rng.normal(size=(2, 1, 1, 1, 16)), jnp.float32)
  at = lambda x, place: rotate(x, *rotations(config, jnp.full((1, 1), place)))
  near = jnp.vdot(at(q, 37), at(k, 20))
  far = jnp.vdot(at(q, 1037), at(k, 1020))
  other = jnp.vdot(at(q, 38), at(k, 20))
  assert near == pytest.approx(float(far), abs=1e-3)
  assert abs(float(near - other)) > 1e-2


def test_rotation_keeps_the_dtype_and_computes_in_float32(rng):
  config = reference.model_config(Shape())
  x = jnp.asarray(rng.normal(size=(1, 40, 2, 16)), jnp.bfloat16)
  rope = rotations(config, jnp.arange(40)[None])
  got = rotate(x, *rope)
  exact = rotate(x.astype(jnp.float32), *rope)
  assert got.dtype == jnp.bfloat16
  np.testing.assert_array_equal(got, exact.astype(jnp.bfloat16))


def test_a_model_without_rope_equals_transformers_with_rotary_disabled(small, rng, monkeypatch):
  hf, model, params = small
  tokens, suffix = random_tokens(rng, 1, 150), random_tokens(rng, 1, 20)
  whole = np.concatenate([tokens, suffix], axis=1)
  rotated = reference.hf_logits(hf, whole)
  monkeypatch.setattr(modeling_qwen3, "apply_rotary_pos_emb", lambda q, k, *rope, **unused: (q, k))
  expected = reference.hf_logits(hf, whole)
  assert reference.relative_error(rotated, expected) > 0.1
  off = model.clone(rope=False)
  cache, logits = tt.prefill(off, params, tokens)
  assert reference.relative_error(logits[0], expected[0, 149]) < 1e-4
  scores = tt.score(off, params, None, cache, suffix)
  logprobs = reference.token_logprobs(expected, whole)[:, 150:]
  np.testing.assert_allclose(scores[:, 1:], logprobs, atol=1e-4)


def test_without_rope_yarn_has_no_effect_either(rng):
  tokens = random_tokens(rng, 1, 40)
  plain, yarn = (reference.pair(Shape(layers=1, rope_scaling=yarn))[1:] for yarn in (None, _YARN))
  got = [tt.prefill(m.clone(rope=False), params, tokens)[1] for m, params in (plain, yarn)]
  np.testing.assert_allclose(*got, atol=1e-5)
