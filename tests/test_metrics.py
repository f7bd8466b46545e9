"""Metrics: names, and the corpus side against numpy."""

import pathlib

import pytest

from tests import synthetic_rows
from tttjax.report import rows_to_cells
from tttjax.report.labels import metric_label
from tttjax.report.runs import Run
from tttjax.tasks import metrics
from tttjax.tasks.metrics import METRICS, Metric


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
  (cell,) = rows_to_cells.cells([Run("x", pathlib.Path("x"), {}, rows, "2025-01-02T03-04-05")])
  assert cell.corpus["worse"].mean == pytest.approx(values.mean(axis=0).min())
