"""Sweeps as plain values: a list of cells, each a dict of dotted config field to value.

A sweep file is a Python file with `get_sweep() -> list[dict]` that combines these:

  chain(
      fixed({'strategies': ('in_context',)}),
      product(fixed({'strategies': ('qttt',)}), sweep('ttt.steps', (4, 8, 16))))

is four cells: the baseline, and qttt at three numbers of steps.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tttjax.errors import UserError

Overrides = dict[str, Any]
Sweep = list[Overrides]


def sweep(field: str, values: Iterable[Any]) -> Sweep:
  """One cell per value of `field`, e.g. sweep('ttt.steps', (8, 16)).

  Raises:
    UserError: no values, a text instead of a list of values, or a value given twice.
  """
  if isinstance(values, (str, bytes)):
    raise UserError(f"sweep({field!r}, {values!r}): give a list of values, such as ({values!r},)")
  values = list(values)
  if not values:
    raise UserError(f"sweep({field!r}, ...) has no values; give at least one")
  for index, value in enumerate(values):
    if value in values[:index]:
      raise UserError(f"sweep({field!r}, ...) gives {value!r} twice; remove one")
  return [{field: value} for value in values]


def fixed(overrides: Mapping[str, Any]) -> Sweep:
  """A single cell with these values, to chain or to multiply with others."""
  return [dict(overrides)]


def product(*sweeps: Sweep) -> Sweep:
  """Every combination of one cell of each sweep; the last sweep varies fastest.

  Raises:
    UserError: two of the sweeps set the same field.
  """
  cells = [{}]
  for other in sweeps:
    cells = [_merged("product", a, b) for a in cells for b in other]
  return cells


def zipped(*sweeps: Sweep) -> Sweep:
  """The first cells of all sweeps together, then the second ones, and so on.

  Raises:
    UserError: sweeps of different numbers of cells, or two set the same field.
  """
  sizes = [len(other) for other in sweeps]
  if len(set(sizes)) > 1:
    raise UserError(f"zipped: sweeps of {sizes} cells; all must have the same number")
  cells = []
  for row in zip(*sweeps):
    cell = {}
    for overrides in row:
      cell = _merged("zipped", cell, overrides)
    cells.append(cell)
  return cells


def chain(*sweeps: Sweep) -> Sweep:
  """The cells of all sweeps one after another; a cell that came before is dropped."""
  cells = []
  for other in sweeps:
    cells += [dict(cell) for cell in other if cell not in cells]
  return cells


def _merged(operation: str, first: Overrides, second: Overrides) -> Overrides:
  common = sorted(set(first) & set(second))
  if common:
    raise UserError(
      f"{operation}: {', '.join(common)} is set by two of its sweeps; use chain, or remove one"
    )
  return {**first, **second}
