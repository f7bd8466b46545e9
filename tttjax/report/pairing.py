"""Which rows answer the same question, and which are the baseline of others."""

from collections.abc import Hashable, Iterable, Sequence

from tttjax.report.labels import is_reference
from tttjax.report.measures import Measure
from tttjax.report.runs import Row, Run
from tttjax.report.statistics import PairedDifference, paired_difference


def cluster_of(row: Row) -> Hashable:
  """The context: those of different seeds are different."""
  return row["seed"], row["context"]


def question_of(row: Row) -> Hashable:
  """What rows of a model and task share when they answer the same question."""
  return row["seed"], row["context"], row["question"], row["length"]


class Baselines:
  """Finds the reference's rows that a cell is compared with: its own run's, else any run's."""

  def __init__(self, runs: Sequence[Run]):
    self._rows: dict[tuple, dict[str, list[Row]]] = {}
    for run in runs:
      for row in run.rows:
        if is_reference(row["family"], row["options"]):
          place = row["model"], row["task"], row["length"]
          self._rows.setdefault(place, {}).setdefault(run.label, []).append(row)

  def of(self, run: str, rows: Sequence[Row]) -> list[Row]:
    """The reference's rows of the model, task and length of a cell's rows; [] without any."""
    by_run = self._rows.get((rows[0]["model"], rows[0]["task"], rows[0]["length"]), {})
    if run in by_run:
      return by_run[run]
    # Another run's contexts are the same only if they have the same text.
    texts = {cluster_of(row): row["doc"].get("context_sha256") for row in rows}
    found = {
      question_of(row): row
      for others in by_run.values()
      for row in others
      if texts.get(cluster_of(row)) == row["doc"].get("context_sha256")
    }
    return list(found.values())


def paired(
  rows: Iterable[Row], baseline: Iterable[Row], measure: Measure
) -> PairedDifference | None:
  """The paired difference of a measure; None where no question has both."""
  values = lambda some: {
    question_of(row): value for row in some if (value := measure(row)) is not None
  }
  treatment, base = values(rows), values(baseline)
  if not treatment.keys() & base.keys():
    return None
  return paired_difference(treatment, base, {key: key[:2] for key in treatment})


def pairs_of(rows: list[Row], baseline: list[Row]) -> list[tuple[Row, Row]]:
  """The pairs of rows that answer the same question."""
  base = {question_of(row): row for row in baseline}
  return [(row, base[question_of(row)]) for row in rows if question_of(row) in base]
