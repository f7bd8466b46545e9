"""Metrics of a whole corpus that are no mean over its questions."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from tttjax.report.runs import Row
from tttjax.report.statistics import (
  Estimate,
  PairedDifference,
  Statistic,
  bootstrap,
  paired_bootstrap,
)

# float64 [parts] -> float: from the means of the parts over the questions.
Combine = Callable[[np.ndarray], float]


def _geometric_mean(values: np.ndarray) -> float:
  return float(np.exp(np.mean(np.log(values)))) if np.all(values > 0) else 0.0


# Name -> (metrics of a row that it is made of, function of their means). Rows that have the parts
# have the metric. ZeroSCROLLS scores summaries by the geometric mean of three ROUGE means.
METRICS: dict[str, tuple[tuple[str, ...], Combine]] = {
  "rouge": (("rouge1", "rouge2", "rougeL"), _geometric_mean),
}


def estimates(rows: Sequence[Row], clusters: Sequence[Hashable]) -> dict[str, Estimate]:
  """The metrics whose parts every row has, with bootstrap errors over the rows' clusters."""
  return {
    name: bootstrap(_statistic(rows, parts, combine), clusters)
    for name, (parts, combine) in _present(rows).items()
  }


def gains(
  pairs: Sequence[tuple[Row, Row]], clusters: Sequence[Hashable]
) -> dict[str, PairedDifference]:
  """The metrics' differences between strategies; `pairs` of rows that answer one question each."""
  if not pairs:
    return {}
  own, base = (list(side) for side in zip(*pairs))
  return {
    name: paired_bootstrap(
      _statistic(own, parts, combine), _statistic(base, parts, combine), clusters
    )
    for name, (parts, combine) in _present(own + base).items()
  }


def _present(rows: Sequence[Row]) -> dict[str, tuple[tuple[str, ...], Combine]]:
  return {
    name: (parts, combine)
    for name, (parts, combine) in METRICS.items()
    if all(row.get(part) is not None for row in rows for part in parts)
  }


def _statistic(rows: Sequence[Row], parts: Sequence[str], combine: Combine) -> Statistic:
  values = np.array([[float(row[part]) for part in parts] for row in rows])
  return lambda indices: combine(values[indices].mean(axis=0))
