"""What one line of a figure is, and how it looks: the same in every figure of a report."""

from collections.abc import Callable, Hashable, Mapping, Sequence
import dataclasses
import textwrap
from typing import Any

from matplotlib import colors
from matplotlib import pyplot as plt
import numpy as np

from tttjax.report.cell import Cell
from tttjax.report.labels import metric_label, reference, role_of, strategy_label
from tttjax.strategies import STRATEGIES, Role

# Colours of Okabe and Ito (2008) and a grey, told apart with any colour vision; their yellow is
# too light for lines and names. Markers repeat the code.
_BLACK = "#000000"
_COLOURS = ("#E69F00", "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#8C8C8C")
_MARKERS = "sDv^XPp<>hd*"
_WIDEST = 40  # characters of a label's line
MAX_SERIES = len(_COLOURS) + 1  # in one panel; variants draws those that are left out


@dataclasses.dataclass(frozen=True)
class Look:
  """Colour, marker and line of a series."""

  colour: Any
  marker: str
  line: str


@dataclasses.dataclass(frozen=True)
class Series:
  """The cells of one strategy of one run, by ascending length, and how they look."""

  label: str
  cells: tuple[Cell, ...]
  look: Look

  @property
  def family(self) -> str:
    return self.cells[0].family

  @property
  def key(self) -> tuple[str, str]:
    """(strategy, run), which is what a report's looks are given to."""
    return _key(self.cells[0])


@dataclasses.dataclass(frozen=True)
class Scheme:
  """What all figures of a task and model share.

  Attributes:
    unit: of the lengths.
    metric: the label of the primary one.
    looks: by strategy and run, of the whole report.
  """

  unit: str
  metric: str
  looks: Mapping[tuple[str, str], Look]

  @property
  def axis(self) -> str:
    return f"context length ({self.unit})"

  @property
  def gain(self) -> str:
    return f"paired gain over {strategy_label(reference())}"

  def text(self, length: float) -> str:
    return f"{length:,.0f} {self.unit}"

  def series(self, cells: Sequence[Cell]) -> list[Series]:
    """One per strategy and run, in order; a run whose results repeat another's is left out."""
    several = len({cell.run for cell in cells}) > 1
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
      groups.setdefault(_key(cell), []).append(cell)
    result, seen = [], set()
    for (strategy, run), own in groups.items():
      content = strategy, tuple((c.length, c.score, c.flops) for c in own)
      if content not in seen:
        name = own[0].label + (f" [{run}]" if several and run else "")
        label = textwrap.fill(name, _WIDEST)
        own = tuple(sorted(own, key=lambda c: c.length))
        result.append(Series(label, own, self.looks[strategy, run]))
      seen.add(content)
    return result


def scheme(cells: Sequence[Cell], unit: str, looks: Mapping[tuple[str, str], Look]) -> Scheme:
  """Of the cells of a task and model."""
  return Scheme(unit, metric_label(cells[0].metric), looks)


def looks_of(cells: Sequence[Cell]) -> dict[tuple[str, str], Look]:
  """A look for every strategy and run of a report.

  The reference is black and controls are dashed. The others get a colour each, those first that
  `chosen` draws; after the last colour they begin anew with other markers.
  """
  looks: dict[tuple[str, str], Look] = {}
  count = 0
  for cell in _ranked(cells):
    line = "--" if role_of(cell.family) is Role.CONTROL else "-"
    if cell.is_reference and not looks:
      looks[_key(cell)] = Look(_BLACK, "o", line)
      continue
    marker = _MARKERS[(count + count // len(_COLOURS)) % len(_MARKERS)]
    looks[_key(cell)] = Look(_COLOURS[count % len(_COLOURS)], marker, line)
    count += 1
  return looks


def chosen(series: Sequence[Series]) -> list[Series]:
  """At most MAX_SERIES, in order. Where there are more: the first run of strategies, one of every
  kind and then variants with options."""
  if len(series) <= MAX_SERIES:
    return list(series)
  firsts = _firsts(_ranked([s.cells[0] for s in series]), lambda cell: cell.strategy)
  kept = {_key(cell) for cell in firsts[:MAX_SERIES]}
  return [s for s in series if s.key in kept]


def _ranked(cells: Sequence[Cell]) -> list[Cell]:
  """A cell of every strategy and run, the most important first.

  These are the first run of each kind of strategy, without options where it ran without, in the
  registry's order; then variants with options; then further runs.
  """
  order = list(STRATEGIES)
  place = lambda cell: order.index(cell.family) if cell.family in order else len(order)
  plain_first = sorted(cells, key=lambda cell: (place(cell), bool(cell.options)))
  strategies = _firsts(plain_first, lambda cell: cell.strategy)
  kinds = _firsts(strategies, lambda cell: cell.family)
  return _firsts([*kinds, *strategies, *plain_first], _key)


def by_family(series: Sequence[Series]) -> list[Series]:
  """The same series, those of one kind of strategy with one name and look."""
  looks = {s.family: s.look for s in _firsts(series, lambda s: s.family)}
  return [
    dataclasses.replace(s, look=looks[s.family], label=strategy_label(s.family)) for s in series
  ]


def graded(series: Sequence[Series]) -> list[Series]:
  """The same series in a sequential palette, for variants of one strategy."""
  shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(series)))
  markers = "oDs^vP*X"
  return [
    dataclasses.replace(s, look=Look(colors.to_hex(shade), markers[i % len(markers)], "-"))
    for i, (s, shade) in enumerate(zip(series, shades))
  ]


def _key(cell: Cell) -> tuple[str, str]:
  return cell.strategy, cell.run


def _firsts(items: Sequence[Any], key: Callable[[Any], Hashable]) -> list[Any]:
  """The first item of every key, in order."""
  found: dict[Hashable, Any] = {}
  for one in items:
    found.setdefault(key(one), one)
  return list(found.values())
