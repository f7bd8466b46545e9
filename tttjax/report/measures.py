"""Numbers of a row: its scores, and what its attention did."""

from collections.abc import Callable, Iterable
import math

from tttjax.report.runs import Row

# Name of the primary metric of rows whose questions have different ones.
MIXED = "mixed"

Measure = Callable[[Row], float | None]

# What `row['mechanism']` may hold for one question, beside mass_by_layer.
MECHANISM = ("mass", "margin", "lead", "heldout_before", "heldout_after", "reference_logprob")
# Of these, what a strategy changes is compared with the reference.
COMPARED = ("mass", "margin", "lead", "reference_logprob")


def primary_name(rows: Iterable[Row]) -> str:
  """The name of the rows' primary metric; MIXED where each has its own."""
  names = {row["metrics"][0] for row in rows}
  return names.pop() if len(names) == 1 else MIXED


def score_of(name: str) -> Measure:
  """Measure of a task's metric; 0 where the example failed."""

  def measure(row: Row) -> float | None:
    if name in row["metrics"]:  # what else stands under that name is no score
      return float(row[name])
    return 0.0 if row.get("error") else None

  return measure


def mechanism_of(name: str) -> Measure:
  """Measure of one mechanism field; None where it was not measured or is not finite."""

  def measure(row: Row) -> float | None:
    value = (row.get("mechanism") or {}).get(name)
    return float(value) if value is not None and math.isfinite(value) else None

  return measure


def heldout_change(row: Row) -> float | None:
  """Loss on spans that were not trained on, after minus before adaptation, nats per token."""
  before, after = mechanism_of("heldout_before")(row), mechanism_of("heldout_after")(row)
  return None if before is None or after is None else after - before
