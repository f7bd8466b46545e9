"""Errors and tests of corpus metrics that are no mean over questions: whole contexts are resampled.

Such a metric combines the means of its parts, as the geometric mean of three ROUGE means does. Its
standard error is that of the bootstrap over contexts; the test of a difference swaps the two
strategies within contexts, which is the sign-flip test where the metric is a mean.
"""

from collections.abc import Callable, Hashable, Sequence
import math

import numpy as np

from tttjax.report.statistics import Estimate, PairedDifference, sign_vectors, smallest_sign_flip_p

# The metric of the means of its parts.
Combine = Callable[..., float]

_DRAWS = 2000


def corpus_estimate(
  combine: Combine,
  values: np.ndarray,
  clusters: Sequence[Hashable],
  draws: int = _DRAWS,
  seed: int = 0,
) -> Estimate:
  """A corpus metric with its bootstrap standard error (Efron and Tibshirani, 1993).

  Args:
    combine: the metric.
    values: [n, P], its parts for each question.
    clusters: the n contexts.
    draws: bootstrap samples.
    seed: of the draws.

  Returns:
    The value on all n; its standard error is nan with fewer than two contexts.
  """
  sums, sizes = _totals(np.asarray(values, np.float64), clusters)
  if not sizes.size:
    return Estimate(math.nan, math.nan, 0, 0)
  value = _combined(combine, sums.sum(axis=0), sizes.sum())
  if sizes.size < 2:
    return Estimate(value, math.nan, len(clusters), sizes.size)
  drawn = [
    _combined(combine, sums[chosen].sum(axis=0), sizes[chosen].sum())
    for chosen in np.random.default_rng(seed).integers(sizes.size, size=(draws, sizes.size))
  ]
  return Estimate(value, float(np.std(drawn, ddof=1)), len(clusters), sizes.size)


def corpus_difference(
  combine: Combine,
  treatment: np.ndarray,
  baseline: np.ndarray,
  clusters: Sequence[Hashable],
  draws: int = _DRAWS,
  seed: int = 0,
) -> PairedDifference:
  """Difference of a corpus metric between two strategies on the same questions.

  Both are drawn with the same contexts, so what an easy context adds to both cancels in the error
  (Koehn, 2004). Under the hypothesis of no difference the two strategies' answers to the questions
  of a context are as likely the other way round: p is the share of such swaps (all of them for few
  contexts) with a difference as large.

  Args:
    combine: the metric.
    treatment, baseline: [n, P], its parts for each question.
    clusters: the n contexts.
    draws: bootstrap samples.
    seed: of the draws.

  Returns:
    The difference on all questions. Error and p are nan with fewer than two contexts, and where
    the metric is not finite.
  """
  own, sizes = _totals(np.asarray(treatment, np.float64), clusters)
  base, _ = _totals(np.asarray(baseline, np.float64), clusters)
  n = len(clusters)

  def difference(own_sum, base_sum, size) -> float:
    return _combined(combine, own_sum, size) - _combined(combine, base_sum, size)

  observed = difference(own.sum(axis=0), base.sum(axis=0), n) if n else math.nan
  untested = PairedDifference(Estimate(observed, math.nan, n, sizes.size), math.nan, math.nan)
  if sizes.size < 2 or not math.isfinite(observed):
    return untested
  drawn = np.array(
    [
      difference(own[chosen].sum(axis=0), base[chosen].sum(axis=0), sizes[chosen].sum())
      for chosen in np.random.default_rng(seed).integers(sizes.size, size=(draws, sizes.size))
    ]
  )
  middle, half = (own + base).sum(axis=0) / 2, (own - base) / 2
  signs, exact = sign_vectors(sizes.size)
  swapped = np.array([difference(middle + part, middle - part, n) for part in signs @ half])
  if not (np.isfinite(drawn).all() and np.isfinite(swapped).all()):
    return untested
  extreme = np.count_nonzero(np.abs(swapped) >= abs(observed) * (1 - 1e-9))
  p = extreme / len(signs) if exact else (extreme + 1) / (len(signs) + 1)
  return PairedDifference(
    Estimate(observed, float(np.std(drawn, ddof=1)), n, sizes.size),
    float(p),
    smallest_sign_flip_p(sizes.size),
  )


def _combined(combine: Combine, sums: np.ndarray, size: float) -> float:
  return float(combine(*(sums / size).tolist()))


def _totals(values: np.ndarray, clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
  """Sums [C, P] of the values of each context, and its number of questions [C]."""
  numbers = {label: i for i, label in enumerate(dict.fromkeys(clusters))}
  index = np.array([numbers[label] for label in clusters], np.int64)
  sums = np.zeros((len(numbers), values.shape[1] if values.ndim > 1 else 0))
  np.add.at(sums, index, values.reshape(len(index), -1))
  return sums, np.bincount(index, minlength=len(numbers))
