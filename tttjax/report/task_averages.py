"""Averages over the tasks of one benchmark, such as the ten of ZeroSCROLLS.

Tasks of one family are those of a benchmark. Several families are where they name the same one
(`benchmark` of their classes, see tasks.protocol): RULER's, of which any is in a run with another.
A task whose options make it a control (`control` there) is not counted.
"""

from collections.abc import Sequence
import dataclasses
import math

from tttjax import spec
from tttjax.report.cell import Cell
from tttjax.report.statistics import Estimate
from tttjax.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class Average:
  """The mean of one strategy's headline scores over tasks, each counting the same.

  Attributes:
    benchmark: family of the tasks, or what several families name.
    model, run, strategy, length: of the cells.
    tasks: how many, those that all strategies have at this length.
    score: the mean; its standard error takes the tasks for independent.
    gain: the mean gain over the reference, likewise; None for the reference.
  """

  benchmark: str
  model: str
  run: str
  strategy: str
  length: int
  tasks: int
  score: Estimate
  gain: Estimate | None


def averages(cells: Sequence[Cell]) -> list[Average]:
  """Of every benchmark with two tasks or more, in the order of the cells."""
  cells = [cell for cell in cells if not _is_control(cell)]
  families: dict[tuple, set[str]] = {}
  for cell in cells:
    families.setdefault((_named(cell), cell.model, cell.run), set()).add(cell.task_family)
  groups: dict[tuple, dict[str, dict[str, Cell]]] = {}
  for cell in cells:
    several = len(families[_named(cell), cell.model, cell.run]) > 1
    benchmark = _named(cell) if several else cell.task_family
    place = benchmark, cell.model, cell.run, cell.length
    groups.setdefault(place, {}).setdefault(cell.strategy, {})[cell.task] = cell
  found = []
  for (benchmark, model, run, length), strategies in groups.items():
    shared = set.intersection(*(set(own) for own in strategies.values()))
    if len(shared) < 2:
      continue
    for strategy, own in strategies.items():
      chosen = [cell for task, cell in own.items() if task in shared]
      gains = [cell.headline_gain for cell in chosen]
      found.append(
        Average(
          benchmark,
          model,
          run,
          strategy,
          length,
          len(chosen),
          _mean([cell.headline for cell in chosen]),
          None if None in gains else _mean([gain.gain for gain in gains]),
        )
      )
  return found


def _named(cell: Cell) -> str:
  """The benchmark that the task's class names, else its family."""
  return getattr(TASKS.get(cell.task_family), "benchmark", cell.task_family)


def _is_control(cell: Cell) -> bool:
  control = getattr(TASKS.get(cell.task_family), "control", None)
  return control in spec.taken_apart(cell.task)[1]


def _mean(estimates: Sequence[Estimate]) -> Estimate:
  number = len(estimates)
  return Estimate(
    sum(e.mean for e in estimates) / number,
    math.sqrt(sum(e.stderr**2 for e in estimates)) / number,
    sum(e.n for e in estimates),
    sum(e.clusters for e in estimates),
  )
