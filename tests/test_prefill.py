"""Prefill: the frozen cache against transformers' own, and what it must not depend on."""

import numpy as np
import pytest
import torch

from tests import reference
from tests.reference import random_tokens, relative_error
import tttjax as tt
from tttjax.attention.caches import round_capacity

_T = 200


@pytest.fixture(scope="module")
def context(small):
  """(tokens [1, 200], cache, last logits)."""
  _, model, params = small
  tokens = random_tokens(np.random.default_rng(5), 1, _T)
  return tokens, *tt.prefill(model, params, tokens)


@pytest.fixture(scope="module")
def suffix():
  return random_tokens(np.random.default_rng(6), 1, 20)


def test_keys_and_values_equal_transformers_over_several_chunks(small):
  hf, model, params = small
  tokens = random_tokens(np.random.default_rng(4), 1, 1500)
  cache, logits = tt.prefill(model, params, tokens, capacity=2176)  # six chunks of 272
  expected = reference.cache_tensors(reference.hf_cache(hf, tokens))
  for layer, (keys, values) in enumerate(expected):
    assert relative_error(cache.keys[layer, :, :, :1500], keys) < 1e-4
    assert relative_error(cache.values[layer, :, :, :1500], values) < 1e-4
  assert relative_error(logits, reference.hf_logits(hf, tokens)[:, -1]) < 1e-4


def test_rows_of_unequal_length_equal_single_rows(small, context):
  _, model, params = small
  tokens, cache, logits = context
  short = random_tokens(np.random.default_rng(7), 1, 77)
  both = np.concatenate([np.pad(short, ((0, 0), (0, _T - 77))), tokens])
  pair, pair_logits = tt.prefill(model, params, both, lengths=np.asarray([77, _T]))
  alone, alone_logits = tt.prefill(model, params, short, capacity=256)
  assert pair.lengths.tolist() == [77, _T]
  for row, length, one, one_logits in ((0, 77, alone, alone_logits), (1, _T, cache, logits)):
    np.testing.assert_allclose(pair_logits[row], one_logits[0], atol=1e-4)
    np.testing.assert_allclose(pair.keys[:, row, :, :length], one.keys[:, 0, :, :length], atol=1e-4)


def test_the_capacity_changes_nothing(small, context, suffix):
  _, model, params = small
  tokens, cache, logits = context
  assert cache.capacity == round_capacity(_T) == 256
  larger, same = tt.prefill(model, params, tokens, capacity=384)
  assert larger.capacity == 384
  np.testing.assert_allclose(same, logits, atol=1e-5)
  np.testing.assert_allclose(
    tt.score(model, params, None, larger, suffix),
    tt.score(model, params, None, cache, suffix),
    atol=1e-5,
  )


def test_slots_beyond_the_length_are_never_attended_to(small, context, suffix):
  _, model, params = small
  tokens, cache, _ = context
  spoiled = cache.replace(
    keys=cache.keys.at[:, :, :, _T:].set(1e4), values=cache.values.at[:, :, :, _T:].set(1e4)
  )
  np.testing.assert_array_equal(
    tt.score(model, params, None, spoiled, suffix), tt.score(model, params, None, cache, suffix)
  )
  cfg = tt.TTTConfig(steps=2, span=16)
  starts = np.asarray([_T - 17, 3])
  losses = [
    tt.adapt(model, params, c, tokens, None, cfg, starts=starts)[2].loss for c in (cache, spoiled)
  ]
  np.testing.assert_array_equal(*losses)


def test_positions_may_jump(small, suffix):
  hf, model, params = small
  tokens = random_tokens(np.random.default_rng(8), 1, _T)
  positions = np.arange(_T)[None] + np.where(np.arange(_T) >= 90, 1000, 0)
  cache, logits = tt.prefill(model, params, tokens, positions=positions)
  assert cache.next_positions().tolist() == [_T + 1000]
  every = np.concatenate([positions, _T + 1000 + np.arange(suffix.shape[1])[None]], axis=1)
  whole = np.concatenate([tokens, suffix], axis=1)
  mask = torch.full((whole.shape[1],) * 2, -torch.inf).triu(1)[None, None]
  expected = reference.hf_logits(hf, whole, position_ids=torch.tensor(every), attention_mask=mask)
  assert relative_error(logits, expected[:, _T - 1]) < 1e-4
  scores = tt.score(model, params, None, cache, suffix)
  wanted = reference.token_logprobs(expected, whole)[:, _T:]
  np.testing.assert_allclose(scores[:, 1:], wanted, atol=1e-4 * np.abs(expected).max())


def test_a_rewound_token_encoded_again_gives_the_prefill_logits(small, context):
  _, model, params = small
  tokens, cache, logits = context
  again = np.concatenate([tokens[:, -1:], [[3]]], axis=1).astype(np.int32)
  scores = tt.score(model, params, None, cache.rewind(1), again)
  np.testing.assert_allclose(scores[0, 1], reference.log_softmax(logits)[0, 3], atol=1e-5)


@pytest.mark.parametrize(
  "tokens, shards, capacity",
  [(1, 1, 128), (128, 1, 128), (129, 1, 256), (257, 1, 384), (600, 1, 640), (100, 4, 512)],
)
def test_default_capacities_are_few(tokens, shards, capacity):
  assert round_capacity(tokens, shards) == capacity
