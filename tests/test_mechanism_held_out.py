"""Losses of given spans against torch, and spans that share no target with trained ones."""

import copy

import jax
import numpy as np
import pytest

from tests import reference
import tttjax as tt
from tttjax.mechanism import held_out_starts, span_losses

_SPAN = 16


def test_losses_equal_torch_before_and_after_adaptation(small, context):
  hf, model, params = small
  tokens, cache = context
  starts = np.array([0, 40, 183])
  fast = jax.tree.map(
    lambda d: 0.1 * jax.random.normal(jax.random.key(1), d.shape), tt.init_fast(model, params)
  )
  merged = copy.deepcopy(hf)
  kernels = tt.merge(model, params, fast)["layers"]["attention"]["query"]["kernel"]
  reference.set_query_kernels(merged, kernels)
  frozen = reference.cache_tensors(reference.hf_cache(hf, tokens))
  for weights, theirs in ((None, hf), (fast, merged)):
    got = span_losses(model, params, weights, cache, tokens, starts, _SPAN)
    expected = [float(reference.span_loss(theirs, frozen, tokens, s, _SPAN)) for s in starts]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_losses_of_the_trained_spans_are_those_of_the_history(small, context):
  _, model, params = small
  tokens, cache = context
  cfg = tt.TTTConfig(steps=4, span=_SPAN, learning_rate=0.0)
  _, _, history = tt.adapt(model, params, cache, tokens, jax.random.key(0), cfg)
  got = span_losses(model, params, None, cache, tokens, history.start, _SPAN)
  np.testing.assert_allclose(got, history.loss, rtol=1e-5)


def test_other_contexts_and_numbers_of_spans_compile_nothing_new(small, context, compilations):
  _, model, params = small
  tokens, cache = context
  span_losses(model, params, None, cache, tokens, np.array([1, 2]), _SPAN)
  short, _ = tt.prefill(model, params, tokens[:, :150])
  before = compilations()
  assert span_losses(model, params, None, short, tokens[:, :150], np.arange(9), _SPAN).shape == (9,)
  assert span_losses(model, params, None, short, tokens, np.zeros(0, int), _SPAN).shape == (0,)
  assert compilations() == before


def test_spans_outside_the_context_are_refused(small, context):
  _, model, params = small
  tokens, cache = context
  for start in (-1, 184):
    with pytest.raises(tt.UserError, match=rf"span start {start} is outside 0\.\.183"):
      span_losses(model, params, None, cache, tokens, np.array([0, start]), _SPAN)


@pytest.mark.parametrize("seed", range(20))
def test_held_out_spans_share_no_target_with_any_other_span(seed):
  rng = np.random.default_rng(seed)
  length, span = int(rng.integers(60, 2000)), int(rng.integers(1, 50))
  trained = rng.integers(0, length - span, int(rng.integers(0, 12)))
  got = held_out_starts(trained, length, span, 8, jax.random.key(seed))
  assert got.dtype == np.int32 and len(got) <= 8
  assert (got >= 0).all() and (got + span + 1 <= length).all()
  targets = lambda s: set(range(s + 1, s + span + 1))
  taken = set().union(*map(targets, trained))
  for start in got:
    assert not targets(start) & taken
    taken |= targets(start)
  if len(got) < 8:  # only where no further span has room
    assert all(targets(s) & taken for s in range(length - span))


def test_no_room_gives_no_starts():
  key = jax.random.key(0)
  assert held_out_starts([], 16, 16, 4, key).shape == (0,)  # a span needs span + 1 tokens
  assert held_out_starts([10], 30, 16, 4, key).shape == (0,)
  assert held_out_starts([], 17, 16, 4, key).tolist() == [0]


def test_the_key_decides():
  draw = lambda seed: held_out_starts([7], 1000, 20, 5, jax.random.key(seed)).tolist()
  assert draw(3) == draw(3) != draw(4)
