"""Accuracy against context length, and the paired gain over in-context."""

from collections.abc import Sequence
import pathlib

from tttjax.report.figures.style import (
  MAX_SERIES,
  Figure,
  Lengths,
  Series,
  canvas,
  chosen,
  end_labels,
  graded,
  length_panel,
  save,
  series_of,
  share_limits,
)
from tttjax.report.labels import BASELINE, family_of
from tttjax.report.summary import Cell

_MAX_COLUMNS = 3
_LEAST_RANGE = 0.02  # of the gain, on both sides of 0


def accuracy(cells: Sequence[Cell], path: pathlib.Path, unit: Lengths) -> Figure:
  """Two panels; the names stand at the lines' right ends."""
  every = series_of(cells)
  series = chosen(every)
  compared = [s for s in series if any(cell.gain for cell in s.cells)]
  figure, axes = canvas(1, 2 if compared else 1, 4.6, 3.9, [s.label for s in (compared or series)])
  length_panel(axes[0, 0], series, lambda cell: cell.accuracy, "accuracy", unit)
  share_limits(axes[0, 0])
  last = axes[0, -1]
  if compared:
    length_panel(
      last, compared, lambda cell: cell.gain and cell.gain.gain, "paired gain over in-context", unit
    )
    last.axhline(0, color="#000000", linewidth=1.3, zorder=2)
    ends = [(_last_gain(s), s.label, s.colour) for s in compared]
    base = next((s for s in series if s.strategy == BASELINE), None)
    if base:
      ends.insert(0, (0.0, "in-context", base.colour))
  else:
    ends = [(s.cells[-1].accuracy.mean, s.label, s.colour) for s in series]
  end_labels(last, ends)
  save(figure, path)
  left_out = len(every) - len(series)
  more = (
    f" {left_out} more strategies or runs are in the table and in the small multiples below"
    " (drawn here: the first run of each, those without options before those with)."
    if left_out
    else ""
  )
  return Figure(
    path,
    "Accuracy against context length",
    "Left: share of questions answered exactly. Right: the difference from in-context on the same"
    " questions; above the line is better. Bars: one standard error, clustered by context. Points"
    f" at one length are shifted a little so that bars do not overlap.{more}",
  )


def variants(cells: Sequence[Cell], path: pathlib.Path, unit: Lengths) -> Figure | None:
  """Small multiples, a panel per family of strategies: only where `accuracy` left some out."""
  every = series_of(cells)
  main = {(s.strategy, s.cells[0].run) for s in chosen(every)}
  if len(main) == len(every):
    return None
  compared = any(cell.gain for cell in cells)
  families: dict[str, list[Series]] = {}
  for one in every:
    if compared and not any(cell.gain for cell in one.cells):
      continue  # in-context itself
    families.setdefault(family_of(one.strategy), []).append(one)
  lone = [own[0] for own in families.values() if len(own) == 1]
  panels = [_thinned(own) for own in families.values() if len(own) > 1]
  if left_out := [s for s in lone if (s.strategy, s.cells[0].run) not in main]:
    panels.append(_thinned(left_out))
  columns = min(_MAX_COLUMNS, len(panels))
  rows = -(-len(panels) // columns)
  figure, axes = canvas(rows, columns, 4.2, 4.2, sharey=True)
  for place, own in zip(axes.flat, panels):
    if compared:
      length_panel(place, graded(own), lambda cell: cell.gain and cell.gain.gain, "", unit)
      place.axhline(0, color="#000000", linewidth=1.3, zorder=2)
    else:
      length_panel(place, graded(own), lambda cell: cell.accuracy, "", unit)
    place.legend(
      fontsize=8.5,
      loc="lower center",
      bbox_to_anchor=(0.5, 1.0),
      ncols=1,
      handlelength=1.6,
      borderaxespad=0.2,
    )
  for place in axes.flat[len(panels) :]:
    place.set_visible(False)
  low, high = axes[0, 0].get_ylim()  # all panels share it; not a sliver where every gain is 0
  axes[0, 0].set_ylim(min(low, -_LEAST_RANGE), max(high, _LEAST_RANGE))
  for row in axes:
    row[0].set_ylabel("paired gain over in-context" if compared else "accuracy")
  save(figure, path)
  return Figure(
    path,
    "Every strategy and its options",
    "Each kind of strategy of which there are several, its options and runs side by side (at most"
    f" {MAX_SERIES}, evenly spaced in their order), then those that the first figure leaves out."
    " Bars: one standard error.",
  )


def _thinned(series: list[Series]) -> list[Series]:
  if len(series) <= MAX_SERIES:
    return series
  step = (len(series) - 1) / (MAX_SERIES - 1)
  return [series[round(i * step)] for i in range(MAX_SERIES)]


def _last_gain(series: Series) -> float:
  return [cell.gain.gain.mean for cell in series.cells if cell.gain][-1]
