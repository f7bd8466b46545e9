"""Attention apart over marked and other slots against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttjax.attention import MASKED, attend_marked, blocks

_LAYERS, _B, _H, _K, _N, _PER, _S, _D = 2, 2, 4, 2, 3, 5, 384, 8


def _expected(q, keys, values, marks, layer, first, limit):
  """float64 (o, lse, top) over the marked slots and over the others, query by query."""
  results = []
  for wanted in (True, False):
    o, lse, top = np.zeros((_B, _N * _PER, _H, _D)), *np.full((2, _B, _N * _PER, _H), MASKED)
    for b, t, h in np.ndindex(lse.shape):
      k = h // (_H // _K)
      slots = [s for s in range(first[b], limit[b, t]) if marks[b, t // _PER, s] == wanted]
      if slots:
        scores = keys[layer, b, k, slots].astype(np.float64) @ q[b, t, h] / np.sqrt(_D)
        top[b, t, h] = scores.max()
        weights = np.exp(scores - scores.max())
        lse[b, t, h] = scores.max() + np.log(weights.sum())
        o[b, t, h] = weights @ values[layer, b, k, slots] / weights.sum()
    results.append((o, lse, top))
  return results


@pytest.fixture(params=[1.0, 30.0], ids=["even", "sharp"])
def case(request, rng, monkeypatch):
  """Arguments whose slots take three blocks; sharp scores make shares round to 0 and 1."""
  monkeypatch.setattr(blocks, "_MAX_BLOCK", 128)
  q = rng.normal(size=(_B, _N * _PER, _H, _D)).astype(np.float32) * request.param
  keys, values = rng.normal(size=(2, _LAYERS, _B, _K, _S, _D)).astype(np.float32)
  marks = rng.random((_B, _N, _S)) < 0.1
  marks[1, 2] = False
  limit = rng.integers(200, _S, (_B, _N * _PER)).astype(np.int32)
  return q, keys, values, marks, 1, np.array([0, 7], np.int32), limit


def test_both_parts_equal_numpy(case):
  got = jax.jit(attend_marked)(*case)
  for ours, theirs in zip(got, _expected(*case)):
    for x, y in zip(ours, theirs):
      np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)


def test_the_difference_keeps_what_the_share_loses(case):
  marked, others = jax.jit(attend_marked)(*case)
  expected_marked, expected_others = _expected(*case)
  margin, expected = marked.lse - others.lse, expected_marked[1] - expected_others[1]
  seen = expected_marked[1] > MASKED
  assert not seen.all()  # one row of marks is empty
  np.testing.assert_allclose(margin[seen], expected[seen], rtol=1e-4, atol=1e-4)
  share = jax.nn.sigmoid(margin)
  if np.abs(case[0]).max() > 30:
    assert (share[seen] == 1).any() and (share[seen] < 1e-6).any()


def test_weights_keep_the_precision_of_float32_queries_over_bfloat16_keys(case):
  q, keys, values, *rest = case
  keys, values = (jnp.asarray(x, jnp.bfloat16) for x in (keys, values))
  got = attend_marked(jnp.asarray(q), keys, values, *rest)
  keys, values = (np.asarray(x, np.float32) for x in (keys, values))
  for ours, theirs in zip(got, _expected(q, keys, values, *rest)):
    np.testing.assert_allclose(ours.o, theirs[0], rtol=2e-5, atol=2e-5)
