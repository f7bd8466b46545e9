"""Panels over the context length: lines, their axis, chance, and names at the lines' ends."""

from collections.abc import Callable, Sequence
import dataclasses
import math
from typing import Any

from matplotlib import colors, ticker
from matplotlib import pyplot as plt
import numpy as np

from tttjax.report.cell import Cell
from tttjax.report.figures.series import Scheme, Series
from tttjax.report.printed import shows_chance
from tttjax.report.statistics import Estimate

_DODGE = 0.045  # octaves between series, so that error bars at one length stay apart
_AIR = 0.04  # of the height, so that markers at the ends of an axis are not cut
_USED_WIDTH = 0.8  # of a column of panels, inside its axes
_TICK_EM = 0.085  # inches per character of a tick label
GREY = "#666666"
# Of names at the lines' ends, in shares of the axes' width.
_BRACKET, _MARKER, _NAME = 1.035, 1.06, 1.085


def errors_of(estimates: Sequence[Estimate]) -> list[float]:
  """Standard errors, 0 where there is none."""
  return [e.stderr if math.isfinite(e.stderr) else 0.0 for e in estimates]


def plot(axes: plt.Axes, one: Series, x, estimates: Sequence[Estimate], order: int = 0) -> None:
  """A line with markers and bars of one standard error."""
  axes.errorbar(
    x,
    [e.mean for e in estimates],
    yerr=errors_of(estimates),
    color=one.look.colour,
    marker=one.look.marker,
    linestyle=one.look.line,
    markersize=5.5,
    linewidth=1.8,
    elinewidth=1.1,
    capsize=2.5,
    label=one.label,
    zorder=3 + order,
  )


def length_panel(
  axes: plt.Axes,
  series: Sequence[Series],
  value: Callable[[Cell], Estimate | None],
  ylabel: str,
  scheme: Scheme,
) -> None:
  """One line per series over a logarithmic axis of lengths; cells without a value are left out."""
  drawn = sorted({c.length for s in series for c in s.cells if value(c) is not None})
  for i, one in enumerate(series):
    own = [cell for cell in one.cells if value(cell) is not None]
    if own:
      shift = 2 ** ((i - (len(series) - 1) / 2) * _DODGE)
      plot(axes, one, [c.length * shift for c in own], [value(c) for c in own], i)
  length_axis(axes, drawn, scheme)
  axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
  axes.set_ylabel(ylabel)


def length_axis(axes: plt.Axes, lengths: Sequence[int], scheme: Scheme) -> None:
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
  axes.set_xlabel(scheme.axis)


def share_limits(axes: plt.Axes) -> None:
  """Limits of an axis of shares, 0 to 1, with room for markers at both ends."""
  axes.set_ylim(-_AIR, 1 + _AIR)


def chance_line(axes: plt.Axes, cells: Sequence[Cell]) -> bool:
  """Dotted, the score of guessing at each length; False, and none, where that is next to 0."""
  known = [cell for cell in cells if not math.isnan(cell.chance)]
  if not shows_chance(known):
    return False
  lengths = sorted({cell.length for cell in known})
  means = [float(np.mean([c.chance for c in known if c.length == n])) for n in lengths]
  # Over the whole width: a single length has to have a line too.
  low, high = axes.get_xlim()
  axes.plot(
    [low, *lengths, high],
    [means[0], *means, means[-1]],
    color=GREY,
    linestyle=":",
    linewidth=1.4,
    zorder=2,
  )
  axes.annotate(
    "chance",
    (low, means[0]),
    xytext=(4, 2),
    textcoords="offset points",
    fontsize=9,
    color=GREY,
    ha="left",
    va="bottom",
  )
  return True


@dataclasses.dataclass(frozen=True)
class End:
  """A line's right end, in data coordinates, and the name that stands beside it."""

  x: float
  y: float
  label: str
  colour: Any
  marker: str | None = None


def ends_of(axes: plt.Axes, series: Sequence[Series]) -> list[End]:
  """The last points of the lines that `length_panel` drew."""
  lines = {bars.get_label(): bars.lines[0] for bars in axes.containers}
  return [
    End(
      lines[s.label].get_xdata()[-1],
      lines[s.label].get_ydata()[-1],
      s.label,
      s.look.colour,
      s.look.marker,
    )
    for s in series
    if s.label in lines
  ]


def end_labels(axes: plt.Axes, ends: Sequence[End], size: float = 9.5) -> None:
  """Names lines to the right of the axes, spread so that no two names overlap.

  A thin line leads from a line's own end to its name. Ends too close to be told apart share one,
  which leads to a bracket around their names: their markers tell who is who.

  Args:
    axes: its limits are final.
    ends: of the lines.
    size: of the font, points.
  """
  axes.figure.draw_without_rendering()  # so that the height is the final one
  height = axes.get_position().height * axes.figure.get_figheight()
  lines = 1 + max((end.label.count("\n") for end in ends), default=0)
  gap = size * (0.25 + 1.2 * lines) / 72 / height
  inside = (axes.transData + axes.transAxes.inverted()).transform
  points = [np.clip(inside((end.x, end.y)), 0, 1) for end in ends]
  order = sorted(range(len(ends)), key=lambda i: (points[i][1], -i))
  places = _spread([points[i][1] for i in order], gap)
  groups: list[list[int]] = []  # of indices into `order`
  for at in range(len(order)):
    if at and points[order[at]][1] - points[order[at - 1]][1] < gap / 2:
      groups[-1].append(at)
    else:
      groups.append([at])
  for group in groups:
    own = [points[order[at]] for at in group]
    lone = len(group) == 1
    colour = ends[order[group[0]]].colour if lone else GREY
    low, high = places[group[0]], places[group[-1]]
    x, y = max(x for x, _ in own), float(np.mean([y for _, y in own]))
    target = min(max(y, low), high)
    stop = _BRACKET if not lone else _MARKER - 0.015
    _outside(axes, [x, max(x, 1.0), stop], [y, y, target], color=colour)
    if not lone:
      air = gap * 0.32
      _outside(
        axes,
        [_BRACKET + 0.01, _BRACKET, _BRACKET, _BRACKET + 0.01],
        [low - air, low - air, high + air, high + air],
        color=colour,
      )
  for at, i in enumerate(order):
    _name(axes, ends[i], places[at], size)


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
  """The places nearest to those wanted, which ascend, with at least `gap` between them."""
  places = list(wanted)
  for _ in range(400):  # pushes overlapping neighbours apart until none is left
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
  return [place + excess for place in places] if len(places) * gap <= 1 else places


def _outside(axes: plt.Axes, x, y, **options) -> None:
  axes.plot(
    x,
    y,
    transform=axes.transAxes,
    clip_on=False,
    linewidth=0.8,
    alpha=0.75,
    zorder=2,
    solid_joinstyle="round",
    scalex=False,
    scaley=False,
    **options,
  )


def _name(axes: plt.Axes, end: End, place: float, size: float) -> None:
  if end.marker:
    _outside(axes, [_MARKER], [place], color=end.colour, marker=end.marker, markersize=5.5)
  axes.annotate(
    end.label,
    xy=(_NAME if end.marker else _MARKER, place),
    xycoords="axes fraction",
    color=_ink(end.colour),
    fontsize=size,
    va="center",
    ha="left",
    annotation_clip=False,
  )


def _ink(colour: Any) -> tuple[float, float, float]:
  """The colour dark enough to be read as text on white."""
  return tuple(0.72 * part for part in colors.to_rgb(colour))
