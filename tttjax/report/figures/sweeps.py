"""Sweeps: accuracy against steps, thinking tokens, learning rate and (k, N), where several ran."""

import collections
from collections.abc import Callable, Sequence
import math
import pathlib

from matplotlib import colors, ticker
import matplotlib.pyplot as plt
import numpy as np

from tttjax.report.cell import Cell
from tttjax.report.figures.axes import errors_of, share_limits
from tttjax.report.figures.series import Scheme
from tttjax.report.figures.style import Figure, canvas, hide, left_out, legend, save, some_lengths
from tttjax.report.labels import role_of, strategy_label
from tttjax.strategies import Role

# Options that set a budget, so cells that differ in them alone lie on one line.
_BUDGET_OPTIONS = ("steps", "span", "learning_rate", "budget", "thinking_tokens")
_MATCHED = 0.06  # budgets matched context by context differ by less than this share


def _trains(cell: Cell) -> bool:
  """Whether its steps, span and rate are what it spends its budget on."""
  return role_of(cell.family) is Role.METHOD and cell.budget.steps > 0


def _thinks(cell: Cell) -> bool:
  """Whether one thought is what it spends its budget on."""
  return cell.budget.thinking_tokens > 0 and cell.budget.samples == 1 and not cell.budget.steps > 0


def budgets(cells: Sequence[Cell], path: pathlib.Path, scheme: Scheme) -> Figure | None:
  """Accuracy against N and against M, a line per length."""
  steps = _sweep(
    cells, _trains, lambda c: c.budget.steps, lambda c: (c.budget.span, c.budget.learning_rate)
  )
  thinking = _sweep(cells, _thinks, lambda c: c.budget.thinking_tokens, lambda c: ())
  panels = [
    (f"{name} of {_label(sweep)}", sweep)
    for name, sweep in (("steps N", steps), ("thinking tokens M", thinking))
    if sweep
  ]
  if not panels:
    return None
  lengths = [length for _, sweep in panels for length in sweep]
  shades = _shades(lengths)
  figure, axes = canvas(1, len(panels), 4.4, 3.9, sharey=True)
  for place, (name, sweep) in zip(axes[0], panels):
    _lines(place, sweep, shades, lambda cell: cell.score)
    place.set_xlabel(f"{name}{_fixed(sweep) if sweep is steps else ''}")
    share_limits(place)
  axes[0, 0].set_ylabel(scheme.metric)
  _length_legend(figure, shades, scheme)
  save(figure, path)
  return Figure(
    path,
    f"{scheme.metric.capitalize()} against the budget",
    "What more steps and more thinking tokens buy, a line per length. Bars: one standard error."
    " Where other settings vary too, the most frequent ones are drawn, as written below the axis;"
    " all are in the table." + left_out(lengths, shades),
  )


def learning_rates(cells: Sequence[Cell], path: pathlib.Path, scheme: Scheme) -> Figure | None:
  """Accuracy and gain against the learning rate, a line per length."""
  sweep = _sweep(
    cells,
    _trains,
    lambda c: c.budget.learning_rate,
    lambda c: (_rounded(c.budget.steps), c.budget.span),
  )
  if not sweep:
    return None
  shades = _shades(sweep)
  compared = any(cell.gain for own in sweep.values() for _, cell in own)
  figure, axes = canvas(1, 2 if compared else 1, 4.4, 3.9)
  _lines(axes[0, 0], sweep, shades, lambda cell: cell.score)
  axes[0, 0].set_ylabel(scheme.metric)
  share_limits(axes[0, 0])
  if compared:
    _lines(axes[0, 1], sweep, shades, lambda cell: cell.gain and cell.gain.gain)
    axes[0, 1].axhline(0, color="#000000", linewidth=1.3, zorder=2)
    axes[0, 1].set_ylabel(scheme.gain)
  for place in axes[0]:
    place.set_xlabel(f"learning rate of {_label(sweep)}")
  _length_legend(figure, shades, scheme)
  save(figure, path)
  return Figure(
    path,
    "Sensitivity to the learning rate",
    "A rate that is picked because it is best here looks better than it is: choose it with one"
    " seed and report another. Bars: one standard error." + left_out(list(sweep), shades),
  )


def grid(cells: Sequence[Cell], path: pathlib.Path, scheme: Scheme) -> Figure | None:
  """Heat maps over span k and steps N, a panel per length."""
  cells = [cell for cell in cells if _trains(cell)]
  cells = _most_frequent(cells, lambda c: (_settings(c), c.budget.learning_rate))
  compared = all(cell.gain for cell in cells)
  value = (lambda cell: cell.gain.gain) if compared else (lambda cell: cell.score)
  grids = {}
  for length in sorted({cell.length for cell in cells}):
    own = {(c.budget.span, _rounded(c.budget.steps)): c for c in cells if c.length == length}
    spans, steps = (sorted({key[i] for key in own}) for i in (0, 1))
    if len(spans) > 1 and len(steps) > 1 and 2 * len(own) > len(spans) * len(steps):
      grids[length] = own, spans, steps
  panels = {length: grids[length] for length in some_lengths(list(grids))}
  if not panels:
    return None
  values = [value(cell).mean for own, _, _ in panels.values() for cell in own.values()]
  most = max(max(map(abs, values)), 1e-3)
  norm = colors.Normalize(-most, most) if compared else colors.Normalize(0, 1)
  colourmap = plt.get_cmap("PuOr_r" if compared else "cividis")
  widest = max(len(steps) for _, _, steps in panels.values())
  tallest = max(len(spans) for _, spans, _ in panels.values())
  columns = min(2, len(panels))
  rows = -(-len(panels) // columns)
  figure, axes = canvas(rows, columns, max(2.6, 0.8 * widest + 0.8), max(2.2, 0.55 * tallest + 1.0))
  for place, (length, (own, spans, steps)) in zip(axes.flat, panels.items()):
    _heat(place, own, spans, steps, value, norm, colourmap, compared)
    place.set_title(scheme.text(length))
    place.set_xlabel("steps N")
    place.set_ylabel("span k (tokens)")
  hide(axes.flat[len(panels) :])
  what = scheme.gain if compared else scheme.metric
  figure.colorbar(
    plt.cm.ScalarMappable(norm, colourmap), ax=list(axes.flat), label=what, shrink=0.9
  )
  save(figure, path)
  return Figure(
    path,
    "Span length and number of steps",
    f"The {what}, and below it one standard error, for every span k and number of steps N that"
    " ran. Neighbours whose difference is within the errors are not told apart."
    + left_out(list(grids), list(panels)),
  )


def _heat(axes, own, spans, steps, value, norm, colourmap, signed: bool) -> None:
  image = np.full((len(spans), len(steps)), np.nan)
  for (span, step), cell in own.items():
    image[spans.index(span), steps.index(step)] = value(cell).mean
  axes.imshow(image, norm=norm, cmap=colourmap, aspect="auto", origin="lower")
  for (span, step), cell in own.items():
    estimate = value(cell)
    red, green, blue, _ = colourmap(norm(estimate.mean))
    dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.55
    error = f"\n±{estimate.stderr:.3f}" if math.isfinite(estimate.stderr) else ""
    axes.text(
      steps.index(step),
      spans.index(span),
      f"{estimate.mean:{'+' if signed else ''}.3f}{error}",
      ha="center",
      va="center",
      fontsize=8.5,
      color="white" if dark else "black",
    )
  axes.set_xticks(range(len(steps)), [f"{step:g}" for step in steps])
  axes.set_yticks(range(len(spans)), [f"{span:g}" for span in spans])
  axes.spines[:].set_visible(False)
  axes.tick_params(length=0)


Sweep = dict[int, list[tuple[float, Cell]]]


def _sweep(
  cells: Sequence[Cell],
  belongs: Callable[[Cell], bool],
  x: Callable[[Cell], float],
  rest: Callable[[Cell], tuple],
) -> Sweep:
  """{length: [(x, cell)]} of cells that differ in x alone; {} unless a length has several x."""
  own = [cell for cell in cells if belongs(cell) and math.isfinite(x(cell)) and x(cell) > 0]
  own = _most_frequent(own, lambda c: (_settings(c), rest(c)))
  lines: Sweep = {}
  for cell in sorted(own, key=lambda c: (c.length, x(c))):
    line = lines.setdefault(cell.length, [])
    if not line or x(cell) > line[-1][0] * (1 + _MATCHED):  # the same budget in another run: once
      line.append((x(cell), cell))
  return {length: line for length, line in lines.items() if len(line) > 1}


def _most_frequent(cells: Sequence[Cell], settings: Callable[[Cell], tuple]) -> list[Cell]:
  """The cells with the most frequent settings, the first of equally frequent ones."""
  counts = collections.Counter(settings(cell) for cell in cells)
  best = max(counts, key=counts.__getitem__, default=None)
  return [cell for cell in cells if settings(cell) == best]


def _settings(cell: Cell) -> tuple:
  """What must agree on one line beside the budget: the strategy and its other options."""
  return cell.family, tuple(
    sorted((k, v) for k, v in cell.options.items() if k not in _BUDGET_OPTIONS)
  )


def _label(sweep: Sweep) -> str:
  """The strategy whose budget varies."""
  return strategy_label(next(iter(sweep.values()))[0][1].family)


def _fixed(sweep: Sweep) -> str:
  budget = next(iter(sweep.values()))[0][1].budget
  return f"\n(span {budget.span:g}, learning rate {budget.learning_rate:g})"


def _rounded(value: float) -> float:
  return round(value) if math.isfinite(value) else -1.0


def _shades(lengths: Sequence[int]) -> dict[int, str]:
  """A colour for each length that is drawn."""
  lengths = some_lengths(lengths)
  shades = plt.get_cmap("viridis_r")(np.linspace(0.12, 0.95, len(lengths)))
  return {n: colors.to_hex(shade) for n, shade in zip(lengths, shades)}


def _lines(axes, sweep: Sweep, shades: dict[int, str], value) -> None:
  sweep = {length: line for length, line in sweep.items() if length in shades}
  markers = "oDs^vP"
  for i, (length, line) in enumerate(sweep.items()):
    line = [(x, value(cell)) for x, cell in line if value(cell) is not None]
    estimates = [estimate for _, estimate in line]
    axes.errorbar(
      [x for x, _ in line],
      [e.mean for e in estimates],
      yerr=errors_of(estimates),
      color=shades[length],
      marker=markers[i % len(markers)],
      markersize=5.5,
      linewidth=1.8,
      elinewidth=1.1,
      capsize=2.5,
    )
  ticks = sorted({x for line in sweep.values() for x, _ in line})
  axes.set_xscale("log")
  air = max((ticks[-1] / ticks[0]) ** 0.06, 1.05)
  axes.set_xlim(ticks[0] / air, ticks[-1] * air)
  width, kept = math.log(ticks[-1] / ticks[0]), []
  for tick in reversed(ticks):  # a label where there is room for it
    if not kept or (math.log(kept[-1]) - math.log(tick)) / width > 0.13:
      kept.append(tick)
  axes.set_xticks(kept, [f"{tick:,.0f}" if tick >= 1 else _short(tick) for tick in kept])
  axes.xaxis.set_minor_locator(ticker.NullLocator())
  axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)


def _length_legend(figure, shades, scheme: Scheme) -> None:
  handles = [
    plt.Line2D([], [], color=colour, linewidth=3, label=scheme.text(length))
    for length, colour in shades.items()
  ]
  legend(figure, handles, [handle.get_label() for handle in handles])


def _short(rate: float) -> str:
  """'3e-4': a number below 1 in the fewest characters."""
  mantissa, exponent = f"{rate:e}".split("e")
  return f"{float(mantissa):g}e{int(exponent)}"
