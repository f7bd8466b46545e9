"""Metrics: what an output is worth (sample side) and how a corpus of them adds up (corpus side).

A new one is an entry of METRICS. A name that has none there, such as one of a task from outside,
is a mean over questions that is called by its name.
"""

from collections.abc import Callable
import dataclasses
import math

from tttjax.tasks import answers
from tttjax.tasks.example import Question
from tttjax.tasks.rouge import rouge_l, rouge_n

# (output, question) -> score in [0, 1].
Sample = Callable[[str, Question], float]


@dataclasses.dataclass(frozen=True)
class Metric:
  """One metric.

  Attributes:
    name: in `Question.metrics`, in rows and in result files.
    label: in tables and figures.
    higher_is_better: whether a gain is a rise.
    sample: the score of one output; None where each task has its own rule, or for a combination.
    parts: the metrics of questions that a combination is made of; () for a mean over questions.
    combine: a combination's value from the means of its parts over the questions.
  """

  name: str
  label: str
  higher_is_better: bool = True
  sample: Sample | None = None
  parts: tuple[str, ...] = ()
  combine: Callable[..., float] | None = None

  def __post_init__(self):
    if bool(self.parts) != (self.combine is not None):
      raise ValueError(f"metric {self.name}: a combination has both parts and combine")


def metric(name: str) -> Metric:
  """The metric of a name, registered or not."""
  return METRICS.get(name) or Metric(name, name.replace("_", " "))


def combinations() -> tuple[Metric, ...]:
  """The metrics of a corpus that are no mean over its questions."""
  return tuple(entry for entry in METRICS.values() if entry.parts)


def scores(text: str, question: Question) -> dict[str, float]:
  """Values of a question's metrics for an output, where the task has no rule of its own.

  Raises:
    ValueError: a metric without a sample side.
  """
  missing = [name for name in question.metrics if metric(name).sample is None]
  if missing:
    raise ValueError(f"metrics without a rule for one output: {', '.join(missing)}")
  return {name: metric(name).sample(text, question) for name in question.metrics}


def _best(compare: Callable[[str, str], float]) -> Sample:
  """The best match of the references, thoughts and chat tokens left out."""
  return lambda text, question: max(
    compare(answers.clean(text), reference) for reference in question.references
  )


def _geometric_mean(*values: float) -> float:
  return math.prod(values) ** (1 / len(values))


METRICS: dict[str, Metric] = {
  entry.name: entry
  for entry in (
    Metric("acc", "accuracy"),
    Metric("type_acc", "accuracy of the type"),
    Metric("id_acc", "accuracy of the id"),
    Metric("within_3_acc", "accuracy within 3 lines"),
    Metric("rouge1", "ROUGE-1", sample=_best(lambda a, b: rouge_n(a, b, 1))),
    Metric("rouge2", "ROUGE-2", sample=_best(lambda a, b: rouge_n(a, b, 2))),
    Metric("rougeL", "ROUGE-L", sample=_best(rouge_l)),
    # ZeroSCROLLS scores summaries by the geometric mean of the three ROUGE means.
    Metric("rouge", "ROUGE", parts=("rouge1", "rouge2", "rougeL"), combine=_geometric_mean),
  )
}
