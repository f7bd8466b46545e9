"""Metrics: how the scores of outputs add up to that of a corpus, and what they are called.

The sample side, the score of one output, is `Task.score`; this is the corpus side. A new metric is
an entry of METRICS. A name that has none there, such as one of a task from outside, is a mean over
questions that is called by its name.
"""

from collections.abc import Callable, Iterable
import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Metric:
  """One metric.

  Attributes:
    name: in `Question.metrics`, in rows and in result files.
    label: in tables and figures.
    higher_is_better: whether a gain is a rise.
    parts: the metrics of questions that a combination is made of; () for a mean over questions.
    combine: a combination's value from the means of its parts over the questions.
    headline: whether this combination, not the primary metric, stands for a task in averages.
    full: whether 1 is what one expects, so that it is shown only where it is less.
  """

  name: str
  label: str
  higher_is_better: bool = True
  parts: tuple[str, ...] = ()
  combine: Callable[..., float] | None = None
  headline: bool = False
  full: bool = False

  def __post_init__(self):
    if bool(self.parts) != (self.combine is not None):
      raise ValueError(f"metric {self.name}: a combination has both parts and combine")


def metric(name: str) -> Metric:
  """The metric of a name, registered or not."""
  return METRICS.get(name) or Metric(name, name.replace("_", " "))


def headline_of(names: Iterable[str]) -> str | None:
  """The combination among `names` that stands for a task; None without one."""
  return next((name for name in names if metric(name).headline), None)


def combinations() -> tuple[Metric, ...]:
  """The metrics of a corpus that are no mean over its questions."""
  return tuple(entry for entry in METRICS.values() if entry.parts)


def _geometric_mean(*values: float) -> float:
  return math.prod(values) ** (1 / len(values))


def _ratio(value: float, of: float) -> float:
  return value / of if of else math.nan


METRICS: dict[str, Metric] = {
  entry.name: entry
  for entry in (
    Metric("acc", "accuracy"),
    Metric("type_acc", "accuracy of the type"),
    Metric("id_acc", "accuracy of the id"),
    Metric("within_3_acc", "accuracy within 3 lines"),
    Metric("answered", "outputs that are not empty", full=True),
    # LongBench-v2's own script leaves empty outputs out.
    Metric("acc_of_answered", "accuracy of outputs", parts=("acc", "answered"), combine=_ratio),
    # Of rows that are not scored alike, such as a user's own questions.
    Metric("mixed", "each question's own score"),
    Metric("recall", "recall"),
    Metric("all", "all found"),
    Metric("f1", "F1"),
    Metric("exact", "exact match"),
    Metric("contains", "answer contained"),
    Metric("contains_any", "a reference contained"),
    Metric("exponential_similarity", "exponential similarity"),
    Metric("concordance", "concordance"),
    Metric("rouge1", "ROUGE-1"),
    Metric("rouge2", "ROUGE-2"),
    Metric("rougeL", "ROUGE-L"),
    # ZeroSCROLLS scores summaries by the geometric mean of the three ROUGE means.
    Metric(
      "rouge",
      "ROUGE",
      parts=("rouge1", "rouge2", "rougeL"),
      combine=_geometric_mean,
      headline=True,
    ),
  )
}
