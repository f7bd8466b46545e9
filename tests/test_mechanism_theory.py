"""The paper's bounds against the softmax itself."""

import numpy as np
import pytest

from tttjax.errors import UserError
from tttjax.mechanism import margin_threshold, mass_bound, required_lead


def _softmax(scores):
  weights = np.exp(scores - scores.max())
  return weights / weights.sum()


def test_mass_never_exceeds_the_bound_and_reaches_it(rng):
  for _ in range(200):
    m, delta = int(rng.integers(0, 50)), rng.uniform(-1, 4)
    near = rng.uniform(-delta, 2, m)  # distractors within delta of the target, or above it
    far = rng.uniform(-20, -delta, 30)
    mass = _softmax(np.concatenate([[0.0], near, far]))[0]
    assert mass <= mass_bound(m, delta)
    equal = _softmax(np.concatenate([[0.0], np.full(m, -delta)]))[0]
    assert equal == pytest.approx(float(mass_bound(m, delta)))


def test_required_lead_guarantees_the_mass_and_no_smaller_lead_does(rng):
  for _ in range(200):
    tokens, eps = int(rng.integers(2, 3000)), rng.uniform(0.01, 0.9)
    lead = required_lead(tokens, eps)
    others = -lead - rng.exponential(size=tokens - 1)
    assert _softmax(np.concatenate([[0.0], others]))[0] >= 1 - eps
    worst = np.full(tokens - 1, -lead)
    assert _softmax(np.concatenate([[0.0], worst]))[0] == pytest.approx(1 - eps)
    assert _softmax(np.concatenate([[0.0], worst + 1e-3]))[0] < 1 - eps


def test_mass_reaches_tau_exactly_where_the_margin_reaches_the_threshold(rng):
  for _ in range(200):
    tau, scores = rng.uniform(0.01, 0.99), rng.normal(size=int(rng.integers(2, 500))) * 3
    others = scores[1:].max() + np.log(np.exp(scores[1:] - scores[1:].max()).sum())
    margin = scores[0] - others
    assert (_softmax(scores)[0] >= tau) == (margin >= margin_threshold(tau))


def test_arrays_broadcast():
  lengths = np.array([2, 128, 131072])
  assert required_lead(lengths, 0.5).shape == (3,)
  np.testing.assert_allclose(required_lead(lengths, 0.5), np.log(lengths - 1))
  assert mass_bound(lengths[:, None], np.zeros(4)).shape == (3, 4)


@pytest.mark.parametrize(
  "call",
  [
    lambda: mass_bound(-1, 0),
    lambda: required_lead(1, 0.1),
    lambda: required_lead(9, 0),
    lambda: margin_threshold([0.5, 1]),
  ],
)
def test_numbers_outside_their_range_are_refused(call):
  with pytest.raises(UserError, match="must"):
    call()
