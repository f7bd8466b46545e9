"""Mass, margin and lead of the evidence against transformers' own attention matrices."""

import copy

import jax
import numpy as np
import pytest
import torch

from tests import reference
from tests.reference import random_tokens
import tttjax as tt
from tttjax.mechanism.evidence_attention import _statistics
from tttjax.ttt.weights import scaled_queries

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
  """Mass, margin and lead [L, H, S] from output_attentions: context by `hf`, suffix by `merged`."""
  past = reference.hf_cache(hf, context)
  merged.set_attn_implementation("eager")
  with torch.no_grad():
    out = merged(torch.tensor(suffix).long(), past_key_values=past, output_attentions=True)
  attentions = np.stack([a[0].double().numpy() for a in out.attentions])  # [L, H, S, T + S]
  marked = np.zeros(attentions.shape[-1], bool)
  marked[: context.shape[1]] = evidence
  mass, others = attentions[..., marked].sum(-1), attentions[..., ~marked]
  return mass, np.log(mass / others.sum(-1)), np.log(mass / others.max(-1))


def _check(small, case, fast, merged):
  hf, model, params = small
  context, cache, suffix, lengths, evidence = case
  statistics = tt.mechanism.attention_statistics(
    model, params, fast, cache, suffix, lengths, evidence
  )
  c = model.config
  for row in range(2):
    length = lengths[row]
    expected = _expected(hf, merged, context, suffix[row : row + 1, :length], evidence[row])
    got = statistics.mass, statistics.margin, statistics.lead
    for ours, theirs, tolerance in zip(got, expected, (1e-5, 2e-4, 2e-4)):
      assert ours.shape == (2, c.num_hidden_layers, c.num_attention_heads, _S)
      assert ours.dtype == np.float32
      np.testing.assert_allclose(ours[row, :, :, :length], theirs, atol=tolerance)
      assert (ours[row, :, :, length:] == 0).all()
  return statistics


def test_statistics_equal_transformers_attentions(small, case):
  statistics = _check(small, case, None, copy.deepcopy(small[0]))
  assert statistics.mass[0].std() > 0.01  # not uniform: the comparison is sensitive


def test_statistics_after_adaptation_equal_transformers_with_merged_weights(small, case):
  hf, model, params = small
  fast = jax.tree.map(
    lambda d: 0.1 * jax.random.normal(jax.random.key(1), d.shape), tt.init_fast(model, params)
  )
  merged = copy.deepcopy(hf)
  kernels = tt.merge(model, params, fast)["layers"]["attention"]["query"]["kernel"]
  reference.set_query_kernels(merged, kernels)
  adapted = _check(small, case, fast, merged)
  before = tt.mechanism.attention_mass(model, params, None, *case[1:])
  assert np.abs(adapted.mass - before).max() > 0.01


def test_statistics_of_scaled_queries_equal_transformers_with_a_scaled_norm(small, case):
  hf, model, _ = small
  scaled = copy.deepcopy(hf)
  with torch.no_grad():
    for layer in scaled.model.layers:
      layer.self_attn.q_norm.weight.mul_(1.4)
  _check(small, case, scaled_queries(model, 1.4), scaled)


def test_mass_on_the_whole_context_and_its_complement_add_up(small, case):
  _, model, params = small
  _, cache, suffix, _, evidence = case
  mass = lambda marks: np.asarray(
    tt.mechanism.attention_mass(model, params, None, cache, suffix, None, marks)
  )
  whole = mass(np.ones_like(evidence))
  np.testing.assert_allclose(mass(evidence) + mass(~evidence), whole, atol=1e-5)
  assert (whole < 1).all() and (whole > 0).all()


def test_without_evidence_the_mass_is_zero_and_margin_and_lead_are_minus_infinity(small, case):
  _, model, params = small
  _, cache, suffix, lengths, evidence = case
  evidence = np.pad(evidence, ((0, 0), (0, 20)))
  evidence[1] = False
  evidence[1, 205] = True  # beyond the context: not there to be seen
  statistics = tt.mechanism.attention_statistics(
    model, params, None, cache, suffix, lengths, evidence
  )
  used = np.s_[1, :, :, : lengths[1]]
  assert (statistics.mass[used] == 0).all()
  assert (statistics.margin[used] == -np.inf).all() and (statistics.lead[used] == -np.inf).all()
  assert np.isfinite(statistics.margin[0]).all()


def test_temporaries_at_131072_slots_are_far_from_a_dense_matrix(small):
  _, model, params = small
  slots, rows, width = 131072, 2, 64
  c = model.config
  kv = jax.ShapeDtypeStruct((c.num_hidden_layers, 1, 2, slots, c.head_dim), np.float32)
  ids = lambda *shape: jax.ShapeDtypeStruct(shape, np.int32)
  cache = tt.PrefixCache(kv, kv, ids(1, slots), ids(1))
  arguments = model, params, None, cache, ids(rows, width), ids(rows), ids(rows, slots)
  compiled = _statistics.lower(*arguments).compile()
  dense = rows * c.num_attention_heads * width * slots * 4  # of one layer
  assert compiled.memory_analysis().temp_size_in_bytes < dense / 4
