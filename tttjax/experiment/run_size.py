"""How large a run is, before it starts."""

import dataclasses

from tttjax import flops
from tttjax.experiment.config import Plan
from tttjax.experiment.spending import allowances, budget_of
from tttjax.experiment.work_units import Work


@dataclasses.dataclass(frozen=True)
class Estimate:
  """The size of a run.

  Attributes:
    flops: model FLOPs if every budget is used up.
    rows: predictions at most.
  """

  flops: int
  rows: int


def estimate(plan: Plan) -> Estimate:
  """Counts a run before it starts.

  An upper bound: as many questions as there may be, each with its longest answer. Lengths in a
  task's own unit are measured on one example.
  """
  config = plan.config
  total = rows = 0
  for name in plan.models:
    work = Work(plan, name)
    for task, source in plan.contexts.items():
      questions = min(config.questions, source.most_questions)
      for length in config.lengths:
        lengths = work.lengths(task, length)
        contexts = plan.number(task, length) * len(config.seeds)
        for allowed in allowances(plan, budget_of(plan, lengths)).values():
          own = allowed.flops - allowed.shared_flops
          reading = allowed.prefills * flops.prefill(lengths.architecture, lengths.context)
          total += contexts * (reading + allowed.shared_flops + questions * own)
          rows += contexts * questions
  return Estimate(total, rows)
