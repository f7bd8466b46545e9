"""Attention mass on evidence against transformers' own attention matrices."""

import copy

import jax
import numpy as np
import pytest
import torch

from tests import reference
from tests.reference import random_tokens
import tttjax as tt

_T, _S = 200, 20


@pytest.fixture(scope="module")
def case(small):
  """(context [1, 200], cache, suffix [2, 20], lengths, evidence [2, 200])."""
  _, model, params = small
  rng = np.random.default_rng(51)
  context = random_tokens(rng, 1, _T)
  evidence = np.zeros((2, _T), bool)
  evidence[0, 30:42] = True
  evidence[1, [0, 77, _T - 1]] = True
  cache, _ = tt.prefill(model, params, context)
  return context, cache, random_tokens(rng, 2, _S), np.asarray([_S, 7]), evidence


def _expected(hf, merged, context, suffix, evidence):
  """Mass [L, H, S] from output_attentions: the context by `hf`, the suffix by `merged`."""
  past = reference.hf_cache(hf, context)
  merged.set_attn_implementation("eager")
  with torch.no_grad():
    out = merged(torch.tensor(suffix).long(), past_key_values=past, output_attentions=True)
  attentions = np.stack([a[0].numpy() for a in out.attentions])  # [L, H, S, T + S]
  return attentions[..., : context.shape[1]][..., evidence].sum(-1)


def _check(small, case, fast, merged):
  hf, model, params = small
  context, cache, suffix, lengths, evidence = case
  mass = np.asarray(tt.mechanism.attention_mass(
      model, params, fast, cache, suffix, lengths, evidence
  ))
  c = model.config
  assert mass.shape == (2, c.num_hidden_layers, c.num_attention_heads, _S)
  for row in range(2):
    length = lengths[row]
    expected = _expected(hf, merged, context, suffix[row : row + 1, :length], evidence[row])
    np.testing.assert_allclose(mass[row, :, :, :length], expected, atol=1e-5)
    assert (mass[row, :, :, length:] == 0).all()
  return mass


def test_mass_equals_transformers_attentions(small, case):
  mass = _check(small, case, None, copy.deepcopy(small[0]))
  assert mass[0].std() > 0.01  # not uniform: the comparison is sensitive


def test_mass_after_adaptation_equals_transformers_with_merged_weights(small, case):
  hf, model, params = small
  fast = jax.tree.map(
      lambda d: 0.1 * jax.random.normal(jax.random.key(1), d.shape), tt.init_fast(model, params)
  )
  merged = copy.deepcopy(hf)
  kernels = tt.merge(model, params, fast)["layers"]["attention"]["query"]["kernel"]
  reference.set_query_kernels(merged, kernels)
  adapted = _check(small, case, fast, merged)
  before = tt.mechanism.attention_mass(model, params, None, *case[1:])
  assert np.abs(adapted - before).max() > 0.01


def test_mass_on_the_whole_context_and_its_complement_add_up(small, case):
  _, model, params = small
  _, cache, suffix, _, evidence = case
  mass = lambda marks: np.asarray(
      tt.mechanism.attention_mass(model, params, None, cache, suffix, None, marks)
  )
  whole = mass(np.ones_like(evidence))
  np.testing.assert_allclose(mass(evidence) + mass(~evidence), whole, atol=1e-5)
  assert (whole < 1).all() and (whole > 0).all()
