"""Standard errors and tests for questions that share a context.

Questions asked about one context are not independent: an easy log makes all of
them easy. So contexts are the clusters of every standard error, comparisons are
paired question by question, and the permutation test flips the sign of whole
contexts. `resampling` does the same for metrics that are no means.
"""

from collections.abc import Hashable, Mapping, Sequence
import dataclasses
import functools
import math

import numpy as np
from scipy import stats

# Up to this many contexts the sign-flip test enumerates all 2^C sign vectors, beyond it draws some.
_EXACT_CONTEXTS = 14
_DRAWS = 20_000

ALPHA = 0.05


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A mean with its clustered standard error.

  Attributes:
    mean: mean over all values (not the mean of cluster means).
    stderr: cluster-robust standard error; nan with fewer than two clusters.
    n: number of values.
    clusters: number of clusters.
  """

  mean: float
  stderr: float
  n: int
  clusters: int

  def interval(self, level: float = 0.95) -> tuple[float, float]:
    """Confidence limits of the mean, by Student's t with one degree less than clusters.

    The normal quantile, two standard errors, is right too rarely with few clusters: .86 instead of
    .95 of the times with 4. nan without a standard error.
    """
    if math.isnan(self.stderr):
      return math.nan, math.nan
    half = float(stats.t.ppf((1 + level) / 2, self.clusters - 1)) * self.stderr
    return self.mean - half, self.mean + half


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
  """Mean of `values` with the standard error clustered by `clusters`.

  With C clusters and n values the variance of the mean is
  C / (C - 1) * sum_c (sum_{i in c} (x_i - mean))^2 / n^2, the cluster-robust
  (CR1) variance of a regression on a constant (Liang and Zeger, 1986).

  Args:
    values: n numbers.
    clusters: the n cluster labels, in the same order.

  Returns:
    The estimate; mean is nan when there is no value.

  Raises:
    ValueError: the two arguments differ in length.
  """
  if len(values) != len(clusters):
    raise ValueError(f"{len(values)} values but {len(clusters)} cluster labels")
  x = np.asarray(values, np.float64)
  labels = {label: i for i, label in enumerate(dict.fromkeys(clusters))}
  n, c = x.size, len(labels)
  if n == 0:
    return Estimate(math.nan, math.nan, 0, 0)
  mean = x.mean()
  if c < 2:
    return Estimate(float(mean), math.nan, n, c)
  index = np.array([labels[label] for label in clusters])
  sums = np.bincount(index, weights=x - mean, minlength=c)
  variance = c / (c - 1) * np.sum(sums**2) / n**2
  return Estimate(float(mean), float(math.sqrt(variance)), n, c)


@dataclasses.dataclass(frozen=True)
class PairedDifference:
  """Difference of two strategies on the same questions.

  Attributes:
    gain: estimate of treatment minus baseline, clustered by context.
    p_value: two-sided, of the test that made it.
    smallest_p: the smallest p-value that this test can give with so many contexts; nan where
      there is no test.
  """

  gain: Estimate
  p_value: float
  smallest_p: float


def paired_difference(
  treatment: Mapping[Hashable, float],
  baseline: Mapping[Hashable, float],
  cluster_of: Mapping[Hashable, Hashable],
) -> PairedDifference:
  """Compares two strategies over the questions that both have answered.

  Args:
    treatment: value of each question (keys are questions).
    baseline: the same for the strategy compared against.
    cluster_of: the context of each question.

  Returns:
    The paired gain and its sign-flip p-value over the questions in both mappings.
  """
  shared = [key for key in treatment if key in baseline]
  differences = [treatment[key] - baseline[key] for key in shared]
  clusters = [cluster_of[key] for key in shared]
  # Sums, not means: contexts with more questions weigh more in the gain too.
  sums: dict[Hashable, float] = {}
  for cluster, difference in zip(clusters, differences):
    sums[cluster] = sums.get(cluster, 0.0) + difference
  return PairedDifference(
    gain=clustered_mean(differences, clusters),
    p_value=sign_flip_p(list(sums.values())),
    smallest_p=smallest_sign_flip_p(len(sums)),
  )


def smallest_sign_flip_p(contexts: int) -> float:
  """The smallest p that so many contexts can have."""
  if not contexts:
    return math.nan
  return 2.0 ** (1 - contexts) if contexts <= _EXACT_CONTEXTS else 1 / (_DRAWS + 1)


def sign_flip_p(differences: Sequence[float], draws: int = _DRAWS, seed: int = 0) -> float:
  """Two-sided permutation p-value of "the differences are symmetric around 0".

  Under that hypothesis each context's difference is as likely with the opposite
  sign. All sign vectors are enumerated up to 14 contexts; beyond that `draws`
  random ones are taken, the observed one counted among them. A report has hundreds of these tests:
  scipy.stats.permutation_test, which the tests compare with, takes .25 s for one of 50 contexts,
  a product of matrices .01 s.

  Args:
    differences: one number per context.
    draws: random sign vectors, used with more than 14 contexts.
    seed: seed of these.

  Returns:
    p in (0, 1]; with C contexts never below 2^(1-C). nan without contexts, or where one is not
    finite.
  """
  d = np.asarray(differences, np.float64)
  if d.size == 0 or not np.isfinite(d).all():
    return math.nan
  observed = abs(d.sum())
  slack = 1e-9 * np.abs(d).sum()  # equal sums differ in their last bits
  signs, exact = sign_vectors(d.size, draws, seed)
  extreme = np.count_nonzero(np.abs(signs @ d) >= observed - slack)
  return float(extreme / len(signs) if exact else (extreme + 1) / (draws + 1))


def sign_vectors(size: int, draws: int = _DRAWS, seed: int = 0) -> tuple[np.ndarray, bool]:
  """(float64 [V, size], signs of `size` contexts; whether these are all that there are)."""
  exact = size <= _EXACT_CONTEXTS
  return _all_signs(size) if exact else _random_signs(size, draws, seed), exact


# A report makes hundreds of tests with the same few numbers of contexts.
@functools.lru_cache(maxsize=4)
def _all_signs(size: int) -> np.ndarray:
  """float64 [2^size, size], every vector of signs."""
  return 1.0 - 2.0 * ((np.arange(2**size)[:, None] >> np.arange(size)) & 1)


@functools.lru_cache(maxsize=4)
def _random_signs(size: int, draws: int, seed: int) -> np.ndarray:
  """float64 [draws, size]."""
  return 1.0 - 2.0 * np.random.default_rng(seed).integers(2, size=(draws, size))


def mcnemar_p(treatment: Sequence[float], baseline: Sequence[float]) -> float:
  """Exact two-sided McNemar test of two right-or-wrong answers to each of n independent questions.

  Of the b + c questions that only one of the two answered rightly, the number won by the treatment
  is binomial with probability 1/2 under the hypothesis of no difference (McNemar, 1947). It
  assumes independent questions, so it holds only where every context has a single question.

  Args:
    treatment, baseline: n values, 0 or 1, of the same questions in the same order.

  Returns:
    p in (0, 1]; 1 where no question was answered differently; nan where a value is not finite.
  """
  if not np.isfinite([*treatment, *baseline]).all():
    return math.nan
  wins = sum(t > b for t, b in zip(treatment, baseline, strict=True))
  losses = sum(t < b for t, b in zip(treatment, baseline, strict=True))
  return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
  """Holm's (1979) step-down correction for making several comparisons.

  Rejecting where the corrected value is below alpha keeps the probability of any false rejection
  below alpha, however the comparisons depend on each other.

  Args:
    p_values: one per comparison; nan means that there was no test, and stays nan.

  Returns:
    The corrected values, in the same order, at most 1.
  """
  tested = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
  corrected = [math.nan] * len(p_values)
  largest = 0.0
  for rank, (p, i) in enumerate(tested):
    largest = max(largest, min(1.0, (len(tested) - rank) * p))
    corrected[i] = largest
  return corrected
