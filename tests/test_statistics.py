"""Clustered errors, permutation tests, McNemar, Holm and bootstraps against outside formulas."""

import math

import numpy as np
import pytest
from scipy import stats

from tttjax.report.statistics import (
  bootstrap,
  clustered_mean,
  holm,
  mcnemar_p,
  paired_bootstrap,
  paired_difference,
  sign_flip_p,
)


@pytest.fixture
def clustered(rng):
  """Values with a shared part per cluster, clusters of unequal size."""
  sizes = rng.integers(1, 9, size=40)
  labels = np.repeat(np.arange(40), sizes)
  values = rng.normal(size=40)[labels] + rng.normal(size=labels.size)
  return values, labels


def test_equals_cluster_robust_regression_on_a_constant(clustered):
  # The sandwich (X'X)^-1 (sum_c X_c' e_c e_c' X_c) (X'X)^-1 with the CR1 correction
  # C/(C-1) (n-1)/(n-p), written out for a one-column design.
  values, labels = clustered
  n, clusters = labels.size, np.unique(labels).size
  design = np.ones((n, 1))
  beta = np.linalg.lstsq(design, values, rcond=None)[0]
  residual = values - design @ beta
  meat = sum(
    np.outer(s, s) for s in (design[labels == c].T @ residual[labels == c] for c in set(labels))
  )
  bread = np.linalg.inv(design.T @ design)
  covariance = bread @ meat @ bread * clusters / (clusters - 1) * (n - 1) / (n - 1)
  estimate = clustered_mean(values, labels)
  assert estimate.mean == pytest.approx(beta[0])
  assert estimate.stderr == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-12)
  assert (estimate.n, estimate.clusters) == (n, clusters)


def test_agrees_with_the_bootstrap_over_clusters(clustered, rng):
  values, labels = clustered
  sums = np.bincount(labels, weights=values)
  sizes = np.bincount(labels)
  draws = rng.integers(0, 40, size=(20_000, 40))
  means = sums[draws].sum(1) / sizes[draws].sum(1)
  stderr = clustered_mean(values, labels).stderr
  assert stderr == pytest.approx(means.std(), rel=0.05)
  # What ignoring the clusters would report is far off on these data.
  assert stderr > 1.3 * stats.sem(values)


def test_singleton_clusters_give_the_ordinary_standard_error(rng):
  values = rng.normal(size=30)
  assert clustered_mean(values, range(30)).stderr == pytest.approx(stats.sem(values), rel=1e-12)


def test_one_cluster_has_no_standard_error():
  estimate = clustered_mean([0.0, 1.0], ["a", "a"])
  assert estimate.mean == 0.5
  assert math.isnan(estimate.stderr)


def test_no_values_have_no_mean():
  assert math.isnan(clustered_mean([], []).mean)


def test_the_interval_is_that_of_students_t(rng):
  values = rng.normal(size=9)
  expected = stats.t.interval(0.9, 8, loc=values.mean(), scale=stats.sem(values))
  assert clustered_mean(values, range(9)).interval(0.9) == pytest.approx(expected)


def test_no_standard_error_no_interval():
  assert all(map(math.isnan, clustered_mean([0.0, 1.0], ["a", "a"]).interval()))


def test_the_interval_of_four_clusters_covers_the_truth_as_often_as_it_says(rng):
  labels = np.repeat(np.arange(4), 5)
  covered = normal = 0
  for _ in range(2000):
    values = rng.normal(size=4)[labels] + rng.normal(size=20)
    estimate = clustered_mean(values, labels)
    low, high = estimate.interval()
    covered += low <= 0 <= high
    normal += abs(estimate.mean) <= 1.96 * estimate.stderr
  assert 0.93 <= covered / 2000 <= 0.97
  assert normal / 2000 < 0.9  # what two standard errors would have given


def test_lengths_must_agree():
  with pytest.raises(ValueError, match="2 values but 1 cluster"):
    clustered_mean([1.0, 2.0], ["a"])


@pytest.mark.parametrize("contexts", [1, 5, 9])
def test_exact_sign_flip_equals_scipy(rng, contexts):
  differences = rng.integers(-3, 5, size=contexts) / 8  # with ties and zeros
  if contexts == 1:
    assert sign_flip_p(differences) == 1.0  # both signs are equally extreme
    return
  expected = stats.permutation_test(
    (differences, np.zeros(contexts)),
    lambda x, y, axis: np.mean(x - y, axis=axis),
    permutation_type="samples",
    n_resamples=np.inf,
    vectorized=True,
  ).pvalue
  assert sign_flip_p(differences) == pytest.approx(min(expected, 1.0))


def test_sampled_sign_flip_approaches_the_exact_one(rng):
  differences = rng.normal(0.3, 1.0, size=16)
  signs = 1 - 2 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1)
  exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
  assert sign_flip_p(differences) == pytest.approx(exact, abs=0.01)


def test_nan_in_nan_out():
  assert math.isnan(sign_flip_p([1.0, math.nan]))
  assert math.isnan(mcnemar_p([1.0, math.nan], [0.0, 1.0]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_p_value(value):
  values = np.array([1.0, value, 0.5, 0.25])
  metric = lambda indices: values[indices].mean()
  assert math.isnan(sign_flip_p(values))
  assert math.isnan(mcnemar_p(values, np.zeros(4)))
  paired = paired_bootstrap(metric, lambda indices: 0.0, range(4), draws=50)
  assert math.isnan(paired.p_value) and math.isnan(paired.gain.stderr)
  # Finite on all questions, and not on some of the draws.
  sometimes = lambda indices: 1.0 if len(set(indices)) == 4 else value
  assert math.isnan(paired_bootstrap(sometimes, lambda indices: 0.0, range(4), draws=50).p_value)


@pytest.mark.parametrize("contexts", [2, 9, 14, 15, 40])
def test_the_smallest_p_is_that_of_equal_differences(contexts):
  paired = paired_difference(
    {i: 1.0 for i in range(contexts)}, {i: 0.0 for i in range(contexts)}, {i: i for i in range(40)}
  )
  if contexts <= 14:
    assert paired.p_value == paired.smallest_p == 2.0 ** (1 - contexts)
  else:  # no fewer than the observed one of 20,000 draws
    assert paired.p_value >= paired.smallest_p == 1 / 20_001


@pytest.mark.parametrize("contexts, smallest", [(2, 0.5), (5, 1 / 16), (9, 1 / 256), (40, 1 / 200)])
def test_no_p_value_of_the_bootstrap_is_below_its_smallest(contexts, smallest):
  paired = paired_bootstrap(lambda i: 1.0, lambda i: 0.0, range(contexts), draws=199)
  assert paired.p_value == paired.smallest_p == max(smallest, 1 / 200)


def test_without_a_test_there_is_no_smallest_p():
  assert math.isnan(paired_difference({}, {}, {}).smallest_p)
  assert math.isnan(paired_bootstrap(lambda i: 1.0, lambda i: 0.0, ["a", "a"]).smallest_p)


def test_paired_difference_uses_shared_questions_and_contexts_as_clusters():
  treatment = {("a", 0): 1.0, ("a", 1): 1.0, ("b", 0): 0.0, ("c", 0): 1.0}
  baseline = {("a", 0): 0.0, ("a", 1): 1.0, ("b", 0): 1.0}
  paired = paired_difference(treatment, baseline, {key: key[0] for key in treatment})
  expected = clustered_mean([1.0, 0.0, -1.0], ["a", "a", "b"])
  assert paired.gain == expected
  assert paired.p_value == 1.0  # sums +1 and -1


def test_no_difference_has_p_one():
  same = {i: 1.0 for i in range(6)}
  paired = paired_difference(same, same, {i: i // 2 for i in same})
  assert (paired.gain.mean, paired.gain.stderr, paired.p_value) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("wins, losses", [(0, 0), (1, 0), (5, 5), (9, 2), (2, 9), (40, 21)])
def test_mcnemar_equals_the_binomial_test_of_scipy(wins, losses):
  treatment = [1.0] * wins + [0.0] * losses + [1.0, 0.0, 0.0]
  baseline = [0.0] * wins + [1.0] * losses + [1.0, 0.0, 0.0]
  expected = stats.binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
  assert mcnemar_p(treatment, baseline) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_is_the_sign_flip_test_of_single_questions(rng):
  treatment, baseline = rng.integers(0, 2, size=(2, 13))
  assert mcnemar_p(treatment, baseline) == pytest.approx(sign_flip_p(treatment - baseline))


def test_holm_on_a_case_worked_by_hand():
  # Sorted .01, .02, .03, .04 times 4, 3, 2, 1, never falling.
  assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_is_the_smallest_level_at_which_the_closed_test_rejects(rng):
  # A hypothesis is rejected if Bonferroni rejects every intersection that contains it.
  p = rng.uniform(0, 0.4, size=5)
  subsets = [[i for i in range(5) if mask >> i & 1] for mask in range(1, 32)]
  closed = [
    min(1.0, max(len(s) * min(p[i] for i in s) for s in subsets if j in s)) for j in range(5)
  ]
  assert holm(p) == pytest.approx(closed)


def test_holm_leaves_comparisons_without_a_test_out():
  corrected = holm([math.nan, 0.02, 0.5])
  assert math.isnan(corrected[0])
  assert corrected[1:] == pytest.approx([0.04, 0.5])


def test_bootstrap_of_a_mean_has_the_clustered_standard_error(clustered):
  values, labels = clustered
  estimate = bootstrap(lambda indices: values[indices].mean(), list(labels), draws=4000)
  assert estimate.mean == pytest.approx(values.mean())
  assert estimate.stderr == pytest.approx(clustered_mean(values, labels).stderr, rel=0.08)


def test_paired_bootstrap_agrees_with_scipy_on_single_questions(rng):
  # A metric that is no mean over questions: the geometric mean of two means.
  x, y = rng.uniform(0.2, 1.0, size=(2, 30, 2))
  metric = lambda values: math.sqrt(values[:, 0].mean() * values[:, 1].mean())
  ours = paired_bootstrap(lambda i: metric(x[i]), lambda i: metric(y[i]), range(30), draws=4000)
  theirs = stats.bootstrap(
    (np.arange(30),),
    lambda i: metric(x[i]) - metric(y[i]),
    vectorized=False,
    n_resamples=4000,
    method="basic",
    rng=np.random.default_rng(1),
  )
  assert ours.gain.mean == pytest.approx(metric(x) - metric(y))
  assert ours.gain.stderr == pytest.approx(theirs.standard_error, rel=0.08)


def test_paired_bootstrap_draws_whole_contexts(clustered):
  values, labels = clustered
  mean = lambda indices: values[indices].mean()
  paired = paired_bootstrap(mean, lambda indices: 0.0, list(labels), draws=4000)
  assert paired.gain.stderr == pytest.approx(clustered_mean(values, labels).stderr, rel=0.08)
  assert paired.gain.clusters == 40


def test_paired_bootstrap_rejects_as_often_as_its_level_says(rng):
  p = []
  for _ in range(200):
    x, y = rng.normal(size=(2, 25))
    p.append(
      paired_bootstrap(lambda i: x[i].mean(), lambda i: y[i].mean(), range(25), draws=199).p_value
    )
  assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.11


def test_paired_bootstrap_of_one_context_has_no_error_and_no_p_value():
  paired = paired_bootstrap(len, lambda i: 0.0, ["a", "a"])
  assert paired.gain.mean == 2
  assert math.isnan(paired.gain.stderr) and math.isnan(paired.p_value)
