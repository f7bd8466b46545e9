"""What the figures share: colours, series, axes of lengths, labels at the lines' ends, saving."""

from collections.abc import Callable, Sequence
import dataclasses
import io
import itertools
import math
import pathlib
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display, here or on a server
from matplotlib import colors, ticker
from matplotlib import pyplot as plt
import numpy as np
from PIL import Image

from tttjax.files import replacing
from tttjax.report.labels import BASELINE, CONTROL, family_of, strategy_label
from tttjax.report.statistics import Estimate
from tttjax.report.summary import Cell

# Colours of Okabe and Ito (2008), told apart with any colour vision; markers repeat the code.
_STYLES = {
  BASELINE: ("#000000", "o"),
  "thinking": ("#E69F00", "s"),
  "qttt": ("#0072B2", "D"),
  CONTROL: ("#56B4E9", "v"),
  "self_consistency": ("#009E73", "^"),
  "full_ttt": ("#CC79A7", "X"),
  "log_temperature": ("#8C8C8C", "p"),
}
# For series without a style of their own.
_MORE = (
  ("#D55E00", "P"),
  ("#8C564B", "*"),
  ("#CC79A7", "<"),
  ("#009E73", ">"),
  ("#8C8C8C", "h"),
  ("#E69F00", "d"),
  ("#56B4E9", "8"),
  ("#0072B2", "H"),
)
_CONTROLS = (CONTROL, "log_temperature")
PHASES = {"prefill": "#BBBBBB", "adapt": "#0072B2", "generate": "#E69F00"}

MAX_SERIES = 8  # in one panel; more are chosen by `chosen` and drawn apart by figures.variants
MAX_PANELS = 4  # lengths that get a panel of their own
_DODGE = 0.045  # octaves between series, so that error bars at one length stay apart
_AIR = 0.04  # of the height, so that markers at the ends of an axis are not cut
_USED_WIDTH = 0.8  # of a column of panels, inside its axes
# Inches of panels; a legend needs them even where there is one small panel.
_NARROWEST = 6.5
_TICK_EM = 0.085  # inches per character of a tick label
RC = {
  "font.size": 11,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.titlesize": 11,
  "axes.axisbelow": True,
  "legend.frameon": False,
}


@dataclasses.dataclass(frozen=True)
class Figure:
  """A file that was drawn, with what the report says about it."""

  path: pathlib.Path
  title: str
  caption: str


@dataclasses.dataclass(frozen=True)
class Series:
  """The cells of one strategy of one run, by ascending length, and how they look."""

  label: str
  cells: tuple[Cell, ...]
  colour: Any
  marker: str
  line: str

  @property
  def strategy(self) -> str:
    return self.cells[0].strategy


@dataclasses.dataclass(frozen=True)
class Lengths:
  """The lengths of a task: their unit, and how labels write them."""

  unit: str

  @property
  def axis(self) -> str:
    return f"context length ({self.unit})"

  def text(self, length: float) -> str:
    return f"{length:,.0f} {self.unit}"


def series_of(cells: Sequence[Cell]) -> list[Series]:
  """One series per strategy and run, in order; a run whose results repeat another's is left out."""
  several = len({cell.run for cell in cells}) > 1
  groups: dict[tuple[str, str], list[Cell]] = {}
  for cell in cells:
    groups.setdefault((cell.strategy, cell.run), []).append(cell)
  result, seen = [], set()
  used = {_STYLES[strategy] for strategy, _ in groups if strategy in _STYLES}
  spare = itertools.cycle(_MORE)
  for (strategy, run), own in groups.items():
    content = strategy, tuple((c.length, c.accuracy, c.flops) for c in own)
    if content in seen:
      continue
    style, family = _STYLES.get(strategy), _STYLES.get(family_of(strategy))
    if style is None and family not in used:  # options, but alone of its kind
      style = family
    if style is None or any(style == (s.colour, s.marker) for s in result):
      style = next(spare)
    seen.add(content)
    used.add(style)
    label = strategy_label(strategy) + (f" [{run}]" if several and run else "")
    line = "--" if strategy in _CONTROLS else "-"
    result.append(Series(label, tuple(sorted(own, key=lambda c: c.length)), *style, line))
  return result


def chosen(series: Sequence[Series]) -> list[Series]:
  """At most MAX_SERIES. Where there are more: each strategy's first run, those without options
  before those with, else in order."""
  if len(series) <= MAX_SERIES:
    return list(series)
  kept = sorted(_firsts(series, lambda s: s.strategy), key=lambda s: "(" in s.strategy)
  return restyled(kept[:MAX_SERIES])


def by_family(series: Sequence[Series]) -> list[Series]:
  """The same series, those of one kind of strategy with one name and look."""
  family = lambda s: family_of(s.strategy)
  looks = {family(s): s for s in restyled(_firsts(series, family))}
  return [
    dataclasses.replace(looks[family(s)], cells=s.cells, label=strategy_label(family(s)))
    for s in series
  ]


def _firsts(series: Sequence[Series], key: Callable[[Series], str]) -> list[Series]:
  """The first series of every key, in order."""
  found: dict[str, Series] = {}
  for one in series:
    found.setdefault(key(one), one)
  return list(found.values())


def restyled(series: Sequence[Series]) -> list[Series]:
  """The same series with colours given out anew, so that a subset repeats none."""
  cells = [cell for s in series for cell in s.cells]
  labels = {(s.strategy, s.cells[0].run): s.label for s in series}
  return [
    dataclasses.replace(s, label=labels[s.strategy, s.cells[0].run]) for s in series_of(cells)
  ]


def graded(series: Sequence[Series]) -> list[Series]:
  """The same series in a sequential palette, for variants of one strategy."""
  shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(series)))
  markers = "oDs^vP*X"
  return [
    dataclasses.replace(s, colour=colors.to_hex(shade), marker=markers[i % len(markers)], line="-")
    for i, (s, shade) in enumerate(zip(series, shades))
  ]


def some_lengths(lengths: Sequence[int], count: int = MAX_PANELS) -> list[int]:
  """At most `count`, the shortest and the longest among them, evenly spaced in order."""
  lengths = sorted(set(lengths))
  if len(lengths) <= count:
    return lengths
  places = np.linspace(0, len(lengths) - 1, count).round().astype(int)
  return [lengths[i] for i in np.unique(places)]


def errors_of(estimates: Sequence[Estimate]) -> list[float]:
  """Standard errors, 0 where there is none."""
  return [e.stderr if math.isfinite(e.stderr) else 0.0 for e in estimates]


def plot(axes: plt.Axes, one: Series, x, estimates: Sequence[Estimate], order: int = 0) -> None:
  """A line with markers and bars of one standard error."""
  axes.errorbar(
    x,
    [e.mean for e in estimates],
    yerr=errors_of(estimates),
    color=one.colour,
    marker=one.marker,
    markersize=5.5,
    linewidth=1.8,
    elinewidth=1.1,
    capsize=2.5,
    linestyle=one.line,
    label=one.label,
    zorder=3 + order,
  )


def length_panel(
  axes: plt.Axes,
  series: Sequence[Series],
  value: Callable[[Cell], Estimate | None],
  ylabel: str,
  unit: Lengths,
) -> None:
  """One line per series over a logarithmic axis of lengths; cells without a value are left out."""
  drawn = sorted({c.length for s in series for c in s.cells if value(c) is not None})
  for i, one in enumerate(series):
    own = [cell for cell in one.cells if value(cell) is not None]
    if own:
      shift = 2 ** ((i - (len(series) - 1) / 2) * _DODGE)
      plot(axes, one, [c.length * shift for c in own], [value(c) for c in own], i)
  length_axis(axes, drawn, unit)
  axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
  axes.set_ylabel(ylabel)


def length_axis(axes: plt.Axes, lengths: Sequence[int], unit: Lengths) -> None:
  """Logarithmic, with a tick at every length whose label has room."""
  axes.set_xscale("log", base=2)
  low, high = lengths[0] / 2**0.3, lengths[-1] * 2**0.3  # air on both sides
  axes.set_xlim(low, high)
  columns = axes.get_subplotspec().get_gridspec().ncols
  width = _USED_WIDTH * axes.figure.get_figwidth() / columns
  place = lambda n: math.log(n / low) / math.log(high / low) * width
  kept: list[int] = []
  for length in reversed(lengths):
    room = (len(f"{length:,}") + 1.5) * _TICK_EM
    if not kept or place(kept[-1]) - place(length) >= room:
      kept.append(length)
  axes.set_xticks(kept, [f"{n:,}" for n in kept])
  axes.xaxis.set_minor_locator(ticker.NullLocator())
  axes.set_xlabel(unit.axis)


def share_limits(axes: plt.Axes) -> None:
  """Limits of an axis of shares, 0 to 1, with room for markers at both ends."""
  axes.set_ylim(-_AIR, 1 + _AIR)


def end_labels(axes: plt.Axes, ends: Sequence[tuple[float, str, Any]], size: float = 9.5) -> None:
  """Names lines at their right ends, in their colours, spread so that no two overlap.

  Args:
    axes: its limits are final.
    ends: (y of the line's end, label, colour).
    size: of the font, points.
  """
  axes.figure.draw_without_rendering()  # so that the height is the final one
  low, high = axes.get_ylim()
  height = axes.get_position().height * axes.figure.get_figheight()
  gap = size * 1.45 / 72 / height
  items = sorted(
    ((min(max((y - low) / (high - low), 0.0), 1.0), i) for i, (y, _, _) in enumerate(ends)),
    key=lambda item: (item[0], -item[1]),
  )
  places = [y for y, _ in items]
  for _ in range(200):  # pushes overlapping neighbours apart until none is left
    moved = False
    for i in range(len(places) - 1):
      overlap = gap - (places[i + 1] - places[i])
      if overlap > 1e-6:
        places[i] -= overlap / 2
        places[i + 1] += overlap / 2
        moved = True
    if not moved:
      break
  excess = max(0.0, -places[0]) - max(0.0, places[-1] - 1) if places else 0.0
  if len(places) * gap <= 1:
    places = [place + excess for place in places]
  for (y, i), place in zip(items, places):
    _, label, colour = ends[i]
    axes.annotate(
      label,
      xy=(1.0, y),
      xytext=(1.06, place),
      xycoords="axes fraction",
      textcoords="axes fraction",
      color=colour,
      fontsize=size,
      va="center",
      ha="left",
      annotation_clip=False,
      arrowprops={
        "arrowstyle": "-",
        "color": colour,
        "linewidth": 0.7,
        "alpha": 0.6,
        "shrinkA": 1,
        "shrinkB": 0,
        "relpos": (0, 0.5),
      },
    )


def legend(figure: plt.Figure, axes: plt.Axes, columns: int = 4) -> None:
  """One legend above all panels."""
  handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels())}
  figure.legend(
    [handle.lines[0] if hasattr(handle, "lines") else handle for handle in handles.values()],
    list(handles),
    loc="outside upper center",
    ncols=min(columns, len(handles)),
    columnspacing=1.6,
  )


def canvas(
  rows: int, columns: int, width: float, height: float, labels: Sequence[str] = (), **options
):
  """(figure, axes [rows, columns]) of panels `width` x `height` inches.

  `labels` are those that `end_labels` will write to the right of the last column.
  """
  room = 0.08 * max(map(len, labels), default=0)
  size = max(width * columns, _NARROWEST) + room, height * rows
  return plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)


def save(figure: plt.Figure, path: pathlib.Path) -> None:
  """Writes the PNG, atomically. A palette keeps a report of many figures small."""
  buffer = io.BytesIO()
  figure.savefig(buffer, dpi=150, format="png", bbox_inches="tight", pad_inches=0.12)
  plt.close(figure)
  image = Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE)
  with replacing(path) as temporary:
    image.save(temporary, format="PNG", optimize=True)
