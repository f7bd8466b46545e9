"""Standard errors and tests for questions that share a context.

Questions asked about one context are not independent: an easy log makes all of
them easy. So contexts are the clusters of every standard error, comparisons are
paired question by question, and the permutation test flips the sign of whole
contexts.
"""

import dataclasses
import itertools
import math
from typing import Hashable, Mapping, Sequence

import numpy as np

# Up to this many contexts the sign-flip test enumerates all 2^C sign vectors.
_EXACT_CONTEXTS = 14


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
    raise ValueError(f'{len(values)} values but {len(clusters)} cluster labels')
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
    p_value: two-sided sign-flip p-value over the contexts' summed differences.
  """

  gain: Estimate
  p_value: float


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
    The paired gain and its p-value over the questions in both mappings.
  """
  shared = [key for key in treatment if key in baseline]
  differences = [treatment[key] - baseline[key] for key in shared]
  clusters = [cluster_of[key] for key in shared]
  # Sums, not means: contexts with more questions weigh more in the gain too.
  sums: dict[Hashable, float] = {}
  for cluster, difference in zip(clusters, differences):
    sums[cluster] = sums.get(cluster, 0.0) + difference
  return PairedDifference(
      gain=clustered_mean(differences, clusters), p_value=sign_flip_p(list(sums.values()))
  )


def sign_flip_p(differences: Sequence[float], draws: int = 20_000, seed: int = 0) -> float:
  """Two-sided permutation p-value of "the differences are symmetric around 0".

  Under that hypothesis each context's difference is as likely with the opposite
  sign. All sign vectors are enumerated up to 14 contexts; beyond that `draws`
  random ones are taken, the observed one counted among them.

  Args:
    differences: one number per context.
    draws: random sign vectors, used with more than 14 contexts.
    seed: seed of these.

  Returns:
    p in (0, 1]; with C contexts never below 2^(1-C). nan without contexts.
  """
  d = np.asarray(differences, np.float64)
  if d.size == 0:
    return math.nan
  observed = abs(d.sum())
  slack = 1e-9 * max(1.0, np.abs(d).sum())  # equal sums differ in their last bits
  if d.size <= _EXACT_CONTEXTS:
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=d.size)))
    return float(np.mean(np.abs(signs @ d) >= observed - slack))
  signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(draws, d.size))
  extreme = np.count_nonzero(np.abs(signs @ d) >= observed - slack)
  return float((extreme + 1) / (draws + 1))
