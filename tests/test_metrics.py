"""The metrics' sample side against rouge_score's values, their corpus side against numpy."""

import pathlib

import numpy as np
import pytest
import synthetic_rows

from tttjax.report import summary
from tttjax.report.labels import metric_label
from tttjax.report.runs import Run
from tttjax.tasks import metrics
from tttjax.tasks.example import Question
from tttjax.tasks.metrics import METRICS, Metric

_ROUGE = ("rouge1", "rouge2", "rougeL")


def asked(*references):
  return Question("", "", references, _ROUGE, 64)


@pytest.mark.parametrize(
  "reference, output, values",
  [
    (  # The example of rouge_score's documentation; values of its version 0.1.2, no stemming.
      "The quick brown dog jumps on the log.",
      "The quick brown fox jumps over the lazy dog",
      (0.7058823529411765, 0.26666666666666666, 0.5882352941176471),
    ),
    (
      "An audit was asked for: since 1994 the bank had lost 12 of its updates, the committee"
      " found.",
      "The committee found that the bank's logs, kept since 1994, had lost 12 updates; it asked for"
      " an audit.",
      (0.7894736842105262, 0.4444444444444444, 0.3157894736842105),
    ),
    ("A word.", "", (0, 0, 0)),
    ("A word.", "a WORD", (1, 1, 1)),
  ],
)
def test_rouge_is_rouge_scores(reference, output, values):
  scores = metrics.scores(output, asked(reference))
  assert tuple(scores) == _ROUGE
  np.testing.assert_allclose(list(scores.values()), values, rtol=1e-12)


def test_the_best_reference_counts_and_thoughts_do_not():
  scores = metrics.scores("<think>\na b c d\n</think>\n\nx y z", asked("a b c d", "x y z"))
  assert set(scores.values()) == {1.0}
  assert set(metrics.scores("<think>x y z", asked("x y z")).values()) == {0.0}


def test_a_metric_without_a_sample_side_is_named():
  with pytest.raises(ValueError, match="without a rule for one output: acc, new"):
    metrics.scores("", Question("", "", ("1",), ("rouge1", "acc", "new"), 4))


def test_a_combination_needs_parts_and_a_function():
  for half in ({"parts": ("a",)}, {"combine": max}):
    with pytest.raises(ValueError, match="metric x: a combination has both"):
      Metric("x", "x", **half)


def test_names_from_outside_are_means_called_by_their_names():
  assert "new_idea" not in METRICS
  assert metrics.metric("new_idea") == Metric("new_idea", "new idea")
  assert metric_label("new_idea") == "new idea" and metric_label("acc") == "accuracy"


def test_one_entry_adds_a_corpus_metric_to_the_cells(rng, monkeypatch):
  worse = Metric("worse", "worse of two", parts=("acc", "other"), combine=min)
  monkeypatch.setitem(METRICS, "worse", worse)
  values = rng.integers(0, 2, (8, 2)).astype(float)
  rows = [
    synthetic_rows.row(context=c, acc=a, other=b, metrics=["acc", "other"])
    for c, (a, b) in enumerate(values)
  ]
  (cell,) = summary.cells([Run("x", pathlib.Path("x"), {}, rows, "2025-01-02T03-04-05")])
  assert cell.corpus["worse"].mean == pytest.approx(values.mean(axis=0).min())
