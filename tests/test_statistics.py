"""Clustered errors, permutation tests, McNemar, Holm and bootstraps against outside formulas."""

import math

import numpy as np
import pytest
from scipy import stats

from tttjax.report.resampling import corpus_difference, corpus_estimate
from tttjax.report.statistics import (
  clustered_mean,
  holm,
  mcnemar_p,
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
  assert math.isnan(sign_flip_p(values))
  assert math.isnan(mcnemar_p(values, np.zeros(4)))
  paired = corpus_difference(float, np.array(values)[:, None], np.zeros((4, 1)), range(4), draws=50)
  assert math.isnan(paired.p_value) and math.isnan(paired.gain.stderr)
  # Finite on all questions, and not on some of the draws.
  sometimes = lambda mean: 1.0 if mean == 0.75 else value
  scores = np.array([[0.0], [1.0], [1.0], [1.0]])
  assert math.isnan(corpus_difference(sometimes, scores, scores[::-1], range(4)).p_value)


@pytest.mark.parametrize("contexts", [2, 9, 14, 15, 40])
def test_the_smallest_p_is_that_of_equal_differences(contexts):
  paired = paired_difference(
    {i: 1.0 for i in range(contexts)}, {i: 0.0 for i in range(contexts)}, {i: i for i in range(40)}
  )
  if contexts <= 14:
    assert paired.p_value == paired.smallest_p == 2.0 ** (1 - contexts)
  else:  # no fewer than the observed one of 20,000 draws
    assert paired.p_value >= paired.smallest_p == 1 / 20_001


@pytest.mark.parametrize("contexts", [2, 5, 9, 40])
def test_the_smallest_p_of_a_corpus_metric_is_that_of_the_sign_flips(contexts):
  ones = np.ones((contexts, 1))
  paired = corpus_difference(float, ones, 0 * ones, range(contexts), draws=50)
  mean = paired_difference(*({i: v for i in range(contexts)} for v in (1.0, 0.0)), range(contexts))
  assert (paired.p_value, paired.smallest_p) == (mean.p_value, mean.smallest_p)


def test_without_a_test_there_is_no_smallest_p():
  assert math.isnan(paired_difference({}, {}, {}).smallest_p)
  ones = np.ones((2, 1))
  assert math.isnan(corpus_difference(float, ones, ones, ["a", "a"]).smallest_p)


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
  estimate = corpus_estimate(float, values[:, None], list(labels), draws=4000)
  assert estimate.mean == pytest.approx(values.mean())
  assert estimate.stderr == pytest.approx(clustered_mean(values, labels).stderr, rel=0.08)
  assert (estimate.n, estimate.clusters) == (labels.size, 40)


def geometric(*means):
  return math.prod(means) ** (1 / len(means))


def test_the_error_of_a_corpus_difference_agrees_with_the_bootstrap_of_scipy(rng):
  x, y = rng.uniform(0.2, 1.0, size=(2, 30, 2))
  ours = corpus_difference(geometric, x, y, range(30), draws=4000)
  theirs = stats.bootstrap(
    (np.arange(30),),
    lambda i: geometric(*x[i].mean(axis=0)) - geometric(*y[i].mean(axis=0)),
    vectorized=False,
    n_resamples=4000,
    method="basic",
    rng=np.random.default_rng(1),
  )
  assert ours.gain.mean == pytest.approx(geometric(*x.mean(axis=0)) - geometric(*y.mean(axis=0)))
  assert ours.gain.stderr == pytest.approx(theirs.standard_error, rel=0.08)


@pytest.mark.parametrize("contexts", [6, 11])
def test_the_p_value_of_a_corpus_difference_is_that_of_scipys_permutation_test(contexts, rng):
  x, y = rng.uniform(0.2, 1.0, size=(2, contexts, 2))
  theirs = stats.permutation_test(
    (np.arange(contexts), np.arange(contexts) + contexts),
    lambda a, b: (
      geometric(*np.concatenate([x, y])[a].mean(axis=0))
      - geometric(*np.concatenate([x, y])[b].mean(axis=0))
    ),
    permutation_type="samples",
    vectorized=False,
    n_resamples=np.inf,
  )
  ours = corpus_difference(geometric, x, y, range(contexts), draws=10)
  assert ours.p_value == pytest.approx(theirs.pvalue)


def test_of_a_mean_it_is_the_sign_flip_test(clustered, rng):
  values, labels = clustered
  base = rng.normal(size=labels.size)
  ours = corpus_difference(float, values[:, None], base[:, None], list(labels), draws=50)
  pairs = [dict(enumerate(own)) for own in (values, base)]
  theirs = paired_difference(*pairs, dict(enumerate(labels)))
  assert ours.p_value == theirs.p_value and ours.gain.clusters == 40


@pytest.mark.parametrize("contexts", [5, 8, pytest.param(12, marks=pytest.mark.slow)])
def test_a_corpus_difference_is_found_no_more_often_than_its_level_says(contexts, rng):
  p = [
    corpus_difference(geometric, *rng.uniform(size=(2, contexts, 3)), range(contexts), 2).p_value
    for _ in range(300)
  ]
  level = 2 / 2**5  # what 5 contexts can show
  assert np.mean(np.array(p) <= level) <= level + 3 * math.sqrt(level * (1 - level) / 300)


def test_a_corpus_metric_of_one_context_has_no_error_and_no_p_value():
  paired = corpus_difference(float, np.full((2, 1), 2.0), np.zeros((2, 1)), ["a", "a"])
  assert paired.gain.mean == 2
  assert math.isnan(paired.gain.stderr) and math.isnan(paired.p_value)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_p_does_not_depend_on_the_unit(scale):
  assert sign_flip_p([scale] * 10) == 2**-9
