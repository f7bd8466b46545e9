"""What accuracy costs: FLOPs, seconds, the Pareto front, and where the seconds go."""

from collections.abc import Callable, Sequence
import math
import pathlib

import matplotlib.patches as patches

from tttjax.report.cell import Cell
from tttjax.report.figures.axes import share_limits
from tttjax.report.figures.series import MAX_SERIES, Scheme, Series, by_family, chosen
from tttjax.report.figures.style import (
  OTHER_PHASE,
  PHASES,
  Figure,
  arrangement,
  canvas,
  hide,
  left_out,
  legend,
  save,
  series_legend,
  some_lengths,
)
from tttjax.report.printed import why_no_seconds

Measure = Callable[[Cell], float]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
  """Of (cost, score), those that no other point beats, by ascending cost.

  A point is beaten by one that costs no more and scores at least as much, and better in one of the
  two.
  """
  front: list[tuple[float, float]] = []
  for cost, score in sorted(points, key=lambda p: (p[0], -p[1])):
    if not front or score > front[-1][1]:
      front.append((cost, score))
  return front


def cost(cells: Sequence[Cell], path: pathlib.Path, scheme: Scheme) -> Figure | None:
  """A panel per length: the primary metric against FLOPs, and below against seconds."""
  series = scheme.series(cells)
  many = len(series) > MAX_SERIES
  if many:  # the front is that of all of them
    series = by_family(series)
  measures: dict[str, Measure] = {
    "model FLOPs per question": lambda cell: cell.flops,
    "seconds per context": lambda cell: cell.total_seconds,
  }
  usable = {name: _lengths(series, measure) for name, measure in measures.items()}
  drawn = {name: some_lengths(lengths) for name, lengths in usable.items() if lengths}
  if len(series) < 2 or not drawn:
    return None
  _, columns = arrangement(max(map(len, drawn.values())))
  rows = {name: -(-len(lengths) // columns) for name, lengths in drawn.items()}
  figure, axes = canvas(sum(rows.values()), columns, 3.1, 2.75, sharey=True)
  top = 0
  for name, lengths in drawn.items():
    block = axes[top : top + rows[name]]
    for place, length in zip(block.flat, lengths):
      _scatter(place, series, length, measures[name])
      place.set_title(scheme.text(length))
      share_limits(place)
    for place in block.flat[max(len(lengths) - columns, 0) : len(lengths)]:
      place.set_xlabel(name)
    for row in block:
      row[0].set_ylabel(scheme.metric)
    hide(block.flat[len(lengths) :])
    top += rows[name]
  series_legend(figure)
  save(figure, path)
  lacking = any(not math.isfinite(c.total_seconds) for s in series for c in s.cells)
  return Figure(
    path,
    f"{scheme.metric.capitalize()} against cost",
    "First against the model FLOPs that a question used (prefill included; each question is"
    " charged the whole adaptation), then against wall-clock seconds of a context with all its"
    " questions. Up and to the left is better; the grey steps are the Pareto front: strategies on"
    " it are not beaten in both at once. Differences within the bars (one standard error) may be"
    " noise, so a place on the front is no proof."
    + (f" Points without seconds are left out: {why_no_seconds(cells)}." if lacking else "")
    + (" Options, budgets and runs of one kind of strategy share a look." if many else "")
    + left_out([n for own in usable.values() for n in own], [n for o in drawn.values() for n in o]),
  )


def _lengths(series: Sequence[Series], measure: Measure) -> list[int]:
  return sorted({c.length for s in series for c in s.cells if _usable(measure(c))})


def _scatter(axes, series: Sequence[Series], length: int, measure: Measure) -> None:
  points = []
  for one in series:
    for cell in one.cells:
      if cell.length != length or not _usable(measure(cell)):
        continue
      points.append((measure(cell), cell.score.mean))
      error = cell.score.stderr
      axes.errorbar(
        *points[-1],
        yerr=error if math.isfinite(error) else 0.0,
        color=one.look.colour,
        marker=one.look.marker,
        markersize=7,
        capsize=2.5,
        elinewidth=1.1,
        linestyle="none",
        label=one.label,
        zorder=4,
      )
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


def latency(cells: Sequence[Cell], path: pathlib.Path, scheme: Scheme) -> Figure | None:
  """Stacked bars of the phases' seconds, a panel per length."""
  series = chosen(scheme.series([cell for cell in cells if cell.seconds]))
  if not series:
    return None
  measured = [cell.length for s in series for cell in s.cells]
  lengths = some_lengths(measured)
  rows, columns = arrangement(len(lengths))
  labels = [s.label for s in series]
  height = 0.1 + 0.2 * (1 + max(label.count("\n") for label in labels))
  figure, axes = canvas(rows, columns, 2.6, 1.15 + height * len(series), labels, sharey=True)
  spent = [phase for s in series for cell in s.cells for phase in cell.seconds]
  phases = [*(p for p in PHASES if p in spent), *dict.fromkeys(p for p in spent if p not in PHASES)]
  for place, length in zip(axes.flat, lengths):
    _bars(place, series, length, phases)
    place.set_title(scheme.text(length))
  axes[0, 0].invert_yaxis()
  hide(axes.flat[len(lengths) :])
  handles = [patches.Patch(color=PHASES.get(p, OTHER_PHASE), label=p) for p in phases]
  legend(figure, handles, phases)
  save(figure, path)
  lacking = (
    f" Bars are missing where there are no seconds: {why_no_seconds(cells)}."
    if not all(cell.seconds for cell in cells)
    else ""
  )
  return Figure(
    path,
    "Where the seconds go",
    "Wall-clock seconds per context, all of its questions together, median over contexts without"
    " compilation: reading the context (prefill), training steps (adapt), thinking and answering"
    f" (generate). They depend on the machine.{lacking}{left_out(measured, lengths)}",
  )


def _bars(axes, series: Sequence[Series], length: int, phases: Sequence[str]) -> None:
  longest = 0.0
  for y, one in enumerate(series):
    cell = next((c for c in one.cells if c.length == length), None)
    if cell is None:
      continue
    left = 0.0
    for phase in phases:
      seconds = cell.seconds.get(phase, 0.0)
      axes.barh(
        y,
        seconds,
        left=left,
        height=0.68,
        color=PHASES.get(phase, OTHER_PHASE),
        edgecolor="white",
        linewidth=0.5,
      )
      left += seconds
    longest = max(longest, left)
    text = f" {left:#.2g}" if left < 10 else f" {left:,.0f}"
    axes.text(left, y, text, va="center", fontsize=9)
  axes.set_xlabel("seconds")
  axes.set_xlim(0, longest * 1.28 or 1)
  axes.locator_params(axis="x", nbins=3)
  axes.set_yticks(range(len(series)), [s.label for s in series])
