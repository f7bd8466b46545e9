"""Accuracy and attention mass against context length, as PNG files."""

import math
import pathlib
from typing import Callable, Sequence

import matplotlib

matplotlib.use('Agg')  # no display, here or on a server
from matplotlib import pyplot as plt
from matplotlib import ticker

from tttjax.evaluation.records import replacing
from tttjax.evaluation.statistics import Estimate, PairedDifference
from tttjax.evaluation.summary import Cell

_CONTROL = 'qttt_other_context'
# Colours of Okabe and Ito (2008), told apart with any colour vision; markers repeat the code.
_STYLES = {
    'in_context': ('#000000', 'o', 'in-context'),
    'thinking': ('#E69F00', 's', 'thinking'),
    'qttt': ('#0072B2', 'D', 'qTTT'),
    _CONTROL: ('#56B4E9', 'v', 'qTTT on another context (control)'),
}
# For strategies without a style of their own.
_MORE = (('#009E73', '^'), ('#D55E00', 'P'), ('#CC79A7', 'X'), ('#8C8C8C', '*'))
_DODGE = 0.045  # octaves between strategies, so that error bars at one length stay apart
_AIR = 0.03  # of the height, so that markers at the ends of an axis are not cut


def label_of(strategy: str) -> str:
  """How figures and the report call a strategy."""
  return _STYLES[strategy][2] if strategy in _STYLES else strategy.replace('_', ' ')


def accuracy(cells: Sequence[Cell], path: pathlib.Path) -> None:
  """Draws accuracy against length and, paired by question, the gain over in-context.

  Error bars are one standard error, clustered by context.
  """
  _draw(
      cells, path, lambda cell: cell.accuracy, lambda cell: cell.gain, 'accuracy', (0.0, 1.0))


def attention_mass(cells: Sequence[Cell], path: pathlib.Path) -> None:
  """The same of the attention mass on the evidence, for the strategies that have it."""
  _draw(
      [cell for cell in cells if cell.mass is not None], path, lambda cell: cell.mass,
      lambda cell: cell.mass_gain, 'attention mass on the evidence', None)


def _draw(
    cells: Sequence[Cell], path: pathlib.Path, value: Callable[[Cell], Estimate],
    gain: Callable[[Cell], PairedDifference | None], ylabel: str,
    limits: tuple[float, float] | None) -> None:
  compared = [cell for cell in cells if gain(cell) is not None]
  panels = 2 if compared else 1
  style = {'font.size': 11, 'axes.spines.top': False, 'axes.spines.right': False}
  with plt.rc_context(style):
    figure, row = plt.subplots(
        1, panels, figsize=(5.2 * panels, 3.9), layout='constrained', squeeze=False)
    _panel(row[0, 0], cells, value, ylabel)
    low, high = limits or (0.0, row[0, 0].get_ylim()[1])
    row[0, 0].set_ylim(low - _AIR * (high - low), high + _AIR * (high - low))
    if compared:
      _panel(row[0, 1], compared, lambda cell: gain(cell).gain, 'paired gain over in-context')
      row[0, 1].axhline(0, color='#000000', linewidth=1.2, zorder=2)
    handles, labels = row[0, 0].get_legend_handles_labels()
    figure.legend(
        [handle.lines[0] for handle in handles], labels, frameon=False,
        loc='outside upper center', ncols=min(4 if panels > 1 else 2, len(labels)),
        columnspacing=1.6)
    with replacing(path) as temporary:
      figure.savefig(temporary, dpi=160)
    plt.close(figure)


def _panel(
    axes: plt.Axes, cells: Sequence[Cell], value: Callable[[Cell], Estimate], ylabel: str) -> None:
  """One line per strategy, over a logarithmic axis of lengths."""
  strategies = list(dict.fromkeys(cell.strategy for cell in cells))
  lengths = sorted({cell.length for cell in cells})
  spare = iter(_MORE * len(strategies))
  for i, strategy in enumerate(strategies):
    colour, marker = _STYLES[strategy][:2] if strategy in _STYLES else next(spare)
    own = sorted((cell for cell in cells if cell.strategy == strategy), key=lambda c: c.length)
    shift = 2 ** ((i - (len(strategies) - 1) / 2) * _DODGE)
    errors = [value(c).stderr if math.isfinite(value(c).stderr) else 0.0 for c in own]
    axes.errorbar(
        [c.length * shift for c in own], [value(c).mean for c in own], yerr=errors,
        color=colour, marker=marker, markersize=6, linewidth=2, elinewidth=1.2, capsize=3,
        linestyle='--' if strategy == _CONTROL else '-', label=label_of(strategy), zorder=3 + i)
  axes.set_xscale('log', base=2)
  axes.set_xticks(lengths, [f'{length:,}' for length in lengths])
  axes.xaxis.set_minor_locator(ticker.NullLocator())
  # Air on both sides, also when there is a single length.
  axes.set_xlim(lengths[0] / 2**0.3, lengths[-1] * 2**0.3)
  axes.grid(axis='y', color='#DDDDDD', linewidth=0.8)
  axes.set_axisbelow(True)
  axes.set_xlabel('context length (tokens)')
  axes.set_ylabel(ylabel)
