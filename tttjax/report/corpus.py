"""Estimates of the metrics of a whole corpus that are no mean over its questions."""

from collections.abc import Hashable, Sequence

import numpy as np

from tttjax.report.resampling import corpus_difference, corpus_estimate
from tttjax.report.runs import Row
from tttjax.report.statistics import Estimate, PairedDifference
from tttjax.tasks.metrics import Metric, combinations


def estimates(rows: Sequence[Row], clusters: Sequence[Hashable]) -> dict[str, Estimate]:
  """The metrics whose parts every row has, with bootstrap errors over the rows' clusters."""
  return {
    metric.name: corpus_estimate(metric.combine, _parts(rows, metric), clusters)
    for metric in _present(rows)
  }


def gains(
  pairs: Sequence[tuple[Row, Row]], clusters: Sequence[Hashable]
) -> dict[str, PairedDifference]:
  """The metrics' differences between strategies; `pairs` of rows that answer one question each."""
  if not pairs:
    return {}
  own, base = (list(side) for side in zip(*pairs))
  return {
    metric.name: corpus_difference(
      metric.combine, _parts(own, metric), _parts(base, metric), clusters
    )
    for metric in _present(own + base)
  }


def _present(rows: Sequence[Row]) -> list[Metric]:
  return [
    metric
    for metric in combinations()
    if all(part in row["metrics"] for row in rows for part in metric.parts)
  ]


def _parts(rows: Sequence[Row], metric: Metric) -> np.ndarray:
  """[n, P], the parts of a combination for each row."""
  return np.array([[float(row[part]) for part in metric.parts] for row in rows])
