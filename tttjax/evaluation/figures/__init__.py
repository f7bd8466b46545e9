"""Figures of a run, as PNG files; each kind is drawn only where there is data for it."""

import itertools
import pathlib
from typing import Callable, Sequence

from matplotlib import pyplot as plt

from tttjax.evaluation.figures import budget, cost, length, mechanism
from tttjax.evaluation.figures.style import RC, Figure, Lengths
from tttjax.evaluation.labels import model_labels, slug
from tttjax.evaluation.summary import Cell

# File name -> function(cells of a task and model, path, unit) -> the figure, or None without data.
_KINDS: dict[str, Callable[[Sequence[Cell], pathlib.Path, Lengths], Figure | None]] = {
    'accuracy': length.accuracy,
    'variants': length.variants,
    'cost': cost.cost,
    'budgets': budget.budgets,
    'grid': budget.grid,
    'learning_rate': budget.learning_rates,
    'mechanism': mechanism.mechanism,
    'mass_by_layer': mechanism.mass_by_layer,
    'latency': cost.latency,
}


def draw(
    cells: Sequence[Cell], directory: pathlib.Path, units: dict[str, str]
) -> dict[tuple[str, str], list[Figure]]:
  """Draws every kind for every task and model.

  Args:
    cells: of `summary.cells`, so that a group's cells stand together.
    directory: of the PNG files. Their names carry task and model where there are several.
    units: of each task's lengths.

  Returns:
    The figures by (task, model).
  """
  groups = {
      group: list(own) for group, own in itertools.groupby(cells, key=lambda cell: cell.group)}
  models = model_labels([model for _, model in groups])
  drawn: dict[tuple[str, str], list[Figure]] = {}
  with plt.rc_context(RC):
    for (task, model), own in groups.items():
      suffix = f'_{slug(task)}_{slug(models[model])}' if len(groups) > 1 else ''
      unit = Lengths(units[task])
      made = (function(own, directory / f'{name}{suffix}.png', unit)
              for name, function in _KINDS.items())
      drawn[task, model] = [figure for figure in made if figure]
  return drawn
