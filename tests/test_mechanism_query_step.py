"""Lemma 3.2 on a small model: gradient against torch autograd, gain against eta |grad|^2."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.qwen3 import modeling_qwen3

from tests import reference
from tests.reference import random_tokens
import tttjax as tt

_T, _S, _LAYER = 200, 20, 1
_ETAS = np.array([1.0, 0.1, 0.01])


@pytest.fixture(scope="module")
def case(small):
  """(context, cache, suffix [2, 20], lengths, evidence [2, 200])."""
  _, model, params = small
  rng = np.random.default_rng(61)
  context = random_tokens(rng, 1, _T)
  evidence = np.zeros((2, _T), bool)
  evidence[0, 30:42] = True
  evidence[1, 77] = True  # a single target: its key is the mean
  cache, _ = tt.prefill(model, params, context)
  return context, cache, random_tokens(rng, 2, _S), np.asarray([_S, 7]), evidence


@pytest.fixture(scope="module")
def step(small, case):
  _, model, params = small
  return tt.mechanism.query_step_check(model, params, None, *case[1:], _LAYER, _ETAS)


def _by_torch(hf, context, suffix, evidence, etas, monkeypatch):
  """log mass [H], gradient of -log mass [H, d] and gains [H, E], float64, for the last token."""
  queries = []
  rotate = modeling_qwen3.apply_rotary_pos_emb

  def keep(*args, **kwargs):
    q, k = rotate(*args, **kwargs)
    queries.append(q[0, :, -1])
    return q, k

  past = reference.hf_cache(hf, context)
  with monkeypatch.context() as patch, torch.no_grad():
    patch.setattr(modeling_qwen3, "apply_rotary_pos_emb", keep)
    hf(reference.torch_ids(suffix), past_key_values=past)
  keys = past.layers[_LAYER].keys[0].double()  # [K, T + S, d]
  q = queries[_LAYER].double().requires_grad_(True)  # [H, d]
  keys = keys.repeat_interleave(q.shape[0] // keys.shape[0], 0)
  marked = torch.zeros(keys.shape[1], dtype=torch.bool)
  marked[:_T] = torch.tensor(evidence)

  def log_mass(q):
    scores = torch.einsum("hd,hsd->hs", q, keys) / q.shape[1] ** 0.5
    return scores[:, marked].logsumexp(-1) - scores.logsumexp(-1)

  before = log_mass(q)
  (grad,) = torch.autograd.grad(-before.sum(), q)
  gains = [(log_mass(q - eta * grad) - before).detach().numpy() for eta in etas]
  return before.detach().numpy(), grad.numpy(), np.stack(gains, -1)


@pytest.mark.parametrize("row", [0, 1])
def test_gradient_and_gains_equal_autograd_on_transformers_queries(
  small, case, step, row, monkeypatch
):
  context, _, suffix, lengths, evidence = case
  suffix = suffix[row : row + 1, : lengths[row]]
  log_mass, grad, gain = _by_torch(small[0], context, suffix, evidence[row], _ETAS, monkeypatch)
  np.testing.assert_allclose(step.log_mass[row], log_mass, atol=1e-4)
  assert reference.relative_error(step.grad[row], grad) < 1e-4
  np.testing.assert_allclose(step.gain[row], gain, rtol=1e-3, atol=2e-5)


def test_the_gain_tends_to_eta_times_the_squared_gradient(step):
  ratio = np.asarray(step.gain / step.predicted)
  largest = np.asarray(step.predicted[..., -1]) > 1e-4  # above the rounding of log mass
  assert largest.any()
  error = np.abs(ratio - 1)[largest]
  assert error[:, -1].max() < 0.05
  assert error[:, 0].mean() > error[:, 1].mean() > error[:, 2].mean()


def test_the_gain_of_a_bfloat16_model_tends_there_too(small, case):
  _, model, params = small
  half = model.clone(dtype=jnp.bfloat16)
  cut = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
  cache, _ = tt.prefill(half, cut, case[0])
  step = tt.mechanism.query_step_check(half, cut, None, cache, *case[2:], _LAYER, _ETAS)
  largest = step.predicted[..., -1] > 1e-4
  assert largest.any()
  np.testing.assert_allclose((step.gain / step.predicted)[largest][:, -1], 1, atol=0.05)


def test_no_step_gains_nothing_and_every_small_one_gains(small, case):
  _, model, params = small
  etas = np.array([0.0, 0.1])
  gain = tt.mechanism.query_step_check(model, params, None, *case[1:], _LAYER, etas).gain
  np.testing.assert_allclose(gain[..., 0], 0, atol=5e-6)
  assert (gain[..., 1] > 5e-6).all()


def test_layers_and_step_sizes_share_one_program(small, case, step, compilations):
  del step
  _, model, params = small
  before = compilations()
  for layer in (0, 2):
    tt.mechanism.query_step_check(model, params, None, *case[1:], layer, _ETAS / 3)
  assert compilations() == before


def test_a_layer_the_model_does_not_have_is_refused(small, case):
  _, model, params = small
  with pytest.raises(tt.UserError, match="layer must be at most 2, not 3"):
    tt.mechanism.query_step_check(model, params, None, *case[1:], 3, _ETAS)
