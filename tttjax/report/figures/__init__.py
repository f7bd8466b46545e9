"""Figures of a run, as PNG files; each kind is drawn only where there is data for it."""

from collections.abc import Callable, Sequence
import itertools
import pathlib

from matplotlib import pyplot as plt

from tttjax.report.cell import Cell
from tttjax.report.figures import costs, evidence, lengths, sweeps
from tttjax.report.figures.series import Scheme, looks_of, scheme
from tttjax.report.figures.style import RC, Figure
from tttjax.report.labels import model_labels, slug

# File name -> function(cells of a task and model, path, scheme) -> figure, or None without data.
_KINDS: dict[str, Callable[[Sequence[Cell], pathlib.Path, Scheme], Figure | None]] = {
  "accuracy": lengths.accuracy,
  "variants": lengths.variants,
  "cost": costs.cost,
  "budgets": sweeps.budgets,
  "grid": sweeps.grid,
  "learning_rate": sweeps.learning_rates,
  "mechanism": evidence.mechanism,
  "mass_by_layer": evidence.mass_by_layer,
  "latency": costs.latency,
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
    group: list(own) for group, own in itertools.groupby(cells, key=lambda cell: cell.group)
  }
  models = model_labels([model for _, model in groups])
  drawn: dict[tuple[str, str], list[Figure]] = {}
  looks = looks_of(cells)
  with plt.rc_context(RC):
    for (task, model), own in groups.items():
      suffix = f"_{slug(task)}_{slug(models[model])}" if len(groups) > 1 else ""
      shared = scheme(own, units[task], looks)
      made = (
        function(own, directory / f"{name}{suffix}.png", shared)
        for name, function in _KINDS.items()
      )
      drawn[task, model] = [figure for figure in made if figure]
  return drawn
