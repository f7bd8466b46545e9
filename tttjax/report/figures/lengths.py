"""The primary metric against context length, and the paired gain over the reference."""

from collections.abc import Sequence
import pathlib

from tttjax.report.cell import Cell
from tttjax.report.figures.axes import (
  End,
  chance_line,
  end_labels,
  ends_of,
  length_panel,
  share_limits,
)
from tttjax.report.figures.series import MAX_SERIES, Scheme, Series, chosen, graded
from tttjax.report.figures.style import Figure, canvas, hide, save
from tttjax.report.labels import reference, strategy_label

_MAX_COLUMNS = 3
_LEAST_RANGE = 0.02  # of the gain, on both sides of 0


def accuracy(cells: Sequence[Cell], path: pathlib.Path, scheme: Scheme) -> Figure:
  """Two panels; the names stand at the lines' right ends."""
  every = scheme.series(cells)
  series = chosen(every)
  compared = [s for s in series if any(cell.gain for cell in s.cells)]
  figure, axes = canvas(1, 2 if compared else 1, 4.6, 3.9, [s.label for s in (compared or series)])
  first, last = axes[0, 0], axes[0, -1]
  length_panel(first, series, lambda cell: cell.score, scheme.metric, scheme)
  share_limits(first)
  dotted = chance_line(first, cells)
  if compared:
    length_panel(last, compared, lambda cell: cell.gain and cell.gain.gain, scheme.gain, scheme)
    last.axhline(0, color="#000000", linewidth=1.3, zorder=2)
    low, high = last.get_ylim()  # not a sliver where every gain is 0
    last.set_ylim(min(low, -_LEAST_RANGE), max(high, _LEAST_RANGE))
  ends = ends_of(last, compared or series)
  if compared:
    edge = last.get_xlim()[1]
    ends.append(
      End(edge, 0.0, strategy_label(reference()), "#000000", _marker_of_reference(series))
    )
  end_labels(last, ends)
  save(figure, path)
  number = len(every) - len(series)
  more = (
    f" {number} more strategies or runs are in the table and in the small multiples below"
    " (drawn here: the first run of each, those without options before those with)."
    if number
    else ""
  )
  guessing = "; dotted: what guessing would score" if dotted else ""
  return Figure(
    path,
    f"{scheme.metric.capitalize()} against context length",
    f"Left: mean {scheme.metric} of all questions{guessing}. Right: the difference from"
    f" {strategy_label(reference())} on the same questions; above the line is better."
    " Bars: one standard error, clustered by context. Points at one length are shifted a little so"
    " that bars do not overlap. A bracket holds the names of lines that end at the same"
    f" place.{more}",
  )


def variants(cells: Sequence[Cell], path: pathlib.Path, scheme: Scheme) -> Figure | None:
  """Small multiples, a panel per family of strategies: only where `accuracy` left some out."""
  every = scheme.series(cells)
  main = {s.key for s in chosen(every)}
  if len(main) == len(every):
    return None
  compared = any(cell.gain for cell in cells)
  families: dict[str, list[Series]] = {}
  for one in every:
    if compared and not any(cell.gain for cell in one.cells):
      continue  # the reference itself
    families.setdefault(one.family, []).append(one)
  lone = [own[0] for own in families.values() if len(own) == 1]
  panels = [_thinned(own) for own in families.values() if len(own) > 1]
  if alone := [s for s in lone if s.key not in main]:
    panels.append(_thinned(alone))
  columns = min(_MAX_COLUMNS, len(panels))
  rows = -(-len(panels) // columns)
  figure, axes = canvas(rows, columns, 4.2, 4.2, sharey=True)
  for place, own in zip(axes.flat, panels):
    if compared:
      length_panel(place, graded(own), lambda cell: cell.gain and cell.gain.gain, "", scheme)
      place.axhline(0, color="#000000", linewidth=1.3, zorder=2)
    else:
      length_panel(place, graded(own), lambda cell: cell.score, "", scheme)
    place.legend(
      fontsize=8.5,
      loc="lower center",
      bbox_to_anchor=(0.5, 1.0),
      ncols=1,
      handlelength=1.6,
      borderaxespad=0.2,
    )
  hide(axes.flat[len(panels) :])
  low, high = axes[0, 0].get_ylim()  # all panels share it
  axes[0, 0].set_ylim(min(low, -_LEAST_RANGE), max(high, _LEAST_RANGE))
  for row in axes:
    row[0].set_ylabel(scheme.gain if compared else scheme.metric)
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


def _marker_of_reference(series: Sequence[Series]) -> str | None:
  return next((s.look.marker for s in series if s.cells[0].is_reference), None)
