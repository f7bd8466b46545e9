"""What accuracy costs: FLOPs, seconds, the Pareto front, and where the seconds go."""

from collections.abc import Callable, Sequence
import math
import pathlib

import matplotlib.patches as patches

from tttjax.report.figures.style import (
  MAX_SERIES,
  PHASES,
  Figure,
  Lengths,
  by_family,
  canvas,
  chosen,
  legend,
  save,
  series_of,
  share_limits,
  some_lengths,
)
from tttjax.report.summary import Cell

_OTHER_PHASE = "#009E73"


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
  """Of (cost, accuracy), those that no other point beats, by ascending cost.

  A point is beaten by one that costs no more and is at least as accurate, and better in one of
  the two.
  """
  front: list[tuple[float, float]] = []
  for cost, accuracy in sorted(points, key=lambda p: (p[0], -p[1])):
    if not front or accuracy > front[-1][1]:
      front.append((cost, accuracy))
  return front


def cost(cells: Sequence[Cell], path: pathlib.Path, unit: Lengths) -> Figure | None:
  """A column per length (at most four), accuracy against FLOPs above and against seconds below."""
  series = series_of(cells)
  if len(series) > MAX_SERIES:  # the front is that of all of them
    series = by_family(series)
  measures: list[tuple[str, Callable[[Cell], float]]] = [
    ("model FLOPs per question", lambda cell: cell.flops),
    ("seconds per context", lambda cell: cell.total_seconds),
  ]
  measures = [
    (name, measure)
    for name, measure in measures
    if any(_usable(measure(c)) for s in series for c in s.cells)
  ]
  if len(series) < 2 or not measures:
    return None
  lengths = some_lengths([cell.length for s in series for cell in s.cells])
  figure, axes = canvas(len(measures), len(lengths), 3.1, 2.9, sharey=True)
  for i, (name, measure) in enumerate(measures):
    for j, length in enumerate(lengths):
      place = axes[i, j]
      _scatter(place, series, length, measure)
      place.set_xlabel(name)
      share_limits(place)
      if i == 0:
        place.set_title(unit.text(length))
    axes[i, 0].set_ylabel("accuracy")
  legend(figure, axes[0, 0], columns=max(2, min(4, len(lengths))))
  save(figure, path)
  return Figure(
    path,
    "Accuracy against cost",
    "Above against the model FLOPs that a question used (prefill included; each question is"
    " charged the whole adaptation), below against wall-clock seconds of a context with all its"
    " questions. Up and to the left is better; the grey steps are the Pareto front: strategies on"
    " it are not beaten in both at once. Differences within the bars (one standard error) may be"
    " noise, so a place on the front is no proof. Hollow: seconds include compilation."
    + (
      " Options, budgets and runs of one kind of strategy share a look."
      if len(series) > MAX_SERIES
      else ""
    ),
  )


def _scatter(axes, series, length: int, measure: Callable[[Cell], float]) -> None:
  points = []
  for one in series:
    for cell in one.cells:
      if cell.length != length or not _usable(measure(cell)):
        continue
      points.append((measure(cell), cell.accuracy.mean))
      error = cell.accuracy.stderr
      hollow = cell.compiling and measure(cell) == cell.total_seconds
      axes.errorbar(
        *points[-1],
        yerr=error if math.isfinite(error) else 0.0,
        color=one.colour,
        marker=one.marker,
        markersize=7,
        capsize=2.5,
        elinewidth=1.1,
        linestyle="none",
        markerfacecolor="white" if hollow else one.colour,
        label=one.label,
        zorder=4,
      )
  if not points:
    return
  front = pareto_front(points)
  axes.set_xscale("log")
  low, high = min(p[0] for p in points), max(p[0] for p in points)
  air = max((high / low) ** 0.12, 1.15)
  axes.set_xlim(low / air, high * air)
  _few_ticks(axes, low, high)
  axes.step(
    [*(p[0] for p in front), high * air],
    [*(p[1] for p in front), front[-1][1]],
    where="post",
    color="#999999",
    linewidth=1.4,
    zorder=2,
  )
  axes.grid(color="#E5E5E5", linewidth=0.7)


def _few_ticks(axes, low: float, high: float) -> None:
  """Ticks at both ends with their own numbers: panels have no room for those of decades."""
  form = (
    (lambda v: f"{v:.1e}".replace("e+0", "e").replace("e+", "e"))
    if high > 1e5
    else (lambda v: f"{v:.2g}" if v < 100 else f"{v:.0f}")
  )
  ticks = [low, high] if high / low > 1.6 else [math.sqrt(low * high)]
  axes.set_xticks(ticks, [form(v) for v in ticks])
  axes.minorticks_off()


def _usable(value: float) -> bool:
  return math.isfinite(value) and value > 0


def latency(cells: Sequence[Cell], path: pathlib.Path, unit: Lengths) -> Figure | None:
  """Stacked bars of the phases' seconds, a panel per length."""
  series = chosen(series_of([cell for cell in cells if cell.total_seconds > 0]))
  if not series:
    return None
  lengths = some_lengths([cell.length for s in series for cell in s.cells])
  figure, axes = canvas(
    1, len(lengths), 2.6, 1.3 + 0.33 * len(series), [series[0].label] * 2, sharey=True
  )
  phases = list(dict.fromkeys(p for s in series for cell in s.cells for p in cell.seconds))
  for place, length in zip(axes[0], lengths):
    longest = 0.0
    for y, one in enumerate(series):
      cell = next((c for c in one.cells if c.length == length), None)
      if cell is None:
        continue
      left = 0.0
      for phase in phases:
        seconds = cell.seconds.get(phase, 0.0)
        place.barh(
          y,
          seconds,
          left=left,
          height=0.68,
          color=PHASES.get(phase, _OTHER_PHASE),
          edgecolor="white",
          linewidth=0.5,
        )
        left += seconds
      longest = max(longest, left)
      place.text(
        left,
        y,
        f" {left:.2g}{'*' if cell.compiling else ''}"
        if left < 100
        else f" {left:,.0f}{'*' if cell.compiling else ''}",
        va="center",
        fontsize=9,
      )
    place.set_title(unit.text(length))
    place.set_xlabel("seconds")
    place.set_xlim(0, longest * 1.28 or 1)
    place.locator_params(axis="x", nbins=3)
    place.set_yticks(range(len(series)), [s.label for s in series])
  axes[0, 0].invert_yaxis()
  figure.legend(
    handles=[patches.Patch(color=PHASES.get(p, _OTHER_PHASE), label=p) for p in phases],
    loc="outside upper center",
    ncols=len(phases),
  )
  save(figure, path)
  return Figure(
    path,
    "Where the seconds go",
    "Wall-clock seconds per context, all of its questions together, median over contexts without"
    " compilation (* where every context compiled something): reading the context (prefill),"
    " training steps (adapt), thinking and answering (generate). They depend on the machine.",
  )
