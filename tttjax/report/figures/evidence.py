"""Attention on the evidence against length: mass, retrieval margin, lead, and mass by layer."""

from collections.abc import Sequence
import pathlib

import numpy as np

from tttjax.mechanism import required_lead
from tttjax.report.cell import Cell
from tttjax.report.figures.axes import GREY, End, end_labels, length_panel
from tttjax.report.figures.series import Scheme, chosen
from tttjax.report.figures.style import (
  Figure,
  arrangement,
  canvas,
  hide,
  left_out,
  save,
  series_legend,
  some_lengths,
)
from tttjax.report.statistics import Estimate

_PANELS = {
  "mass": "attention mass on the evidence",
  "margin": "retrieval margin γ (nats)",
  "lead": "lead over the best distractor (nats)",
  "heldout_change": "held-out loss, after − before (nats)",
  "reference_logprob": "log-probability of the answer, gain (nats)",
}
_MEANINGS = {
  "mass": "Mass: their share of the attention.",
  "margin": "Margin: the logarithm of their weight against that of all other tokens; above the"
  " dotted line they hold more than half of the mass, at any length.",
  "lead": "Lead: how far the evidence is ahead of the strongest single distractor; the grey curves"
  " are the lead that guarantees a mass of 0.5 and 0.9, which grows with the logarithm of the"
  " length.",
  "heldout_change": "Held-out loss: prediction of spans that were not trained on; below the line"
  " adaptation helped.",
  "reference_logprob": "Log-probability: that of the whole reference answer, against what reads and"
  " answers at once.",
}
_EPSILONS = (0.5, 0.1)


def mechanism(cells: Sequence[Cell], path: pathlib.Path, scheme: Scheme) -> Figure | None:
  """A panel for each of mass, margin, lead and held-out loss that was measured."""
  measured = [cell for cell in cells if cell.mechanism]
  panels = {
    name: label
    for name, label in _PANELS.items()
    if any(_estimate(cell, name) for cell in measured)
  }
  if not panels:
    return None
  series = chosen(scheme.series(measured))
  columns = min(2, len(panels))
  rows = -(-len(panels) // columns)
  figure, axes = canvas(rows, columns, 4.6, 3.6)
  for place, (name, label) in zip(axes.flat, panels.items()):
    length_panel(place, series, lambda cell: _estimate(cell, name), label, scheme)
    if name == "mass":
      place.set_ylim(0, place.get_ylim()[1])
    elif name == "lead":
      _requirements(place, measured)
    else:
      place.axhline(0, color="#666666", linewidth=1.2, linestyle=":", zorder=2)
    if name == "margin":
      low, high = place.get_ylim()
      place.set_ylim(min(low, -0.3), max(high, 0.3))
      place.annotate(
        "mass 0.5",
        (0.99, 0),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=9,
        color="#555555",
      )
  hide(axes.flat[len(panels) :])
  series_legend(figure)
  save(figure, path)
  return Figure(
    path,
    "What the attention does",
    "On the tokens that the answer is read from, means over layers and heads, while the"
    " reference answer is predicted; of strategies that think, while they write their thoughts"
    " and answer, which is another text and not to be compared number by number. "
    + " ".join(_MEANINGS[name] for name in panels)
    + " Bars: one standard error, clustered by context.",
  )


def _estimate(cell: Cell, name: str) -> Estimate | None:
  """What a panel shows of a cell: log-probabilities only as gains, since answers differ."""
  if name != "reference_logprob":
    return cell.mechanism.get(name)
  gained = cell.mechanism_gain.get(name)
  return gained and gained.gain


def _requirements(axes, cells: Sequence[Cell]) -> None:
  """Curves log((T - 1)(1 - eps) / eps) through the lengths' mean numbers of tokens."""
  tokens: dict[int, list[float]] = {}
  for cell in cells:
    if cell.context_tokens >= 2:  # nothing is ahead of nothing
      tokens.setdefault(cell.length, []).append(cell.context_tokens)
  lengths = sorted(tokens)
  ends = []
  for epsilon in _EPSILONS if lengths else ():
    needed = [float(required_lead(np.mean(tokens[n]), epsilon)) for n in lengths]
    axes.plot(lengths, needed, color=GREY, linestyle="-.", linewidth=1.4, zorder=2)
    ends.append(End(lengths[-1], needed[-1], f"for mass {1 - epsilon:g}", GREY))
  end_labels(axes, ends, size=9)


def mass_by_layer(cells: Sequence[Cell], path: pathlib.Path, scheme: Scheme) -> Figure | None:
  """Attention mass of each layer, a panel per length."""
  measured = [cell for cell in cells if len(cell.mass_by_layer) > 1]
  if not measured:
    return None
  series = chosen(scheme.series(measured))
  lengths = some_lengths([cell.length for cell in measured])
  rows, columns = arrangement(len(lengths))
  figure, axes = canvas(rows, columns, 3.1, 3.1)
  for place, length in zip(axes.flat, lengths):
    for one in series:
      for cell in one.cells:
        if cell.length == length:
          layers = np.arange(len(cell.mass_by_layer))
          place.plot(
            layers,
            cell.mass_by_layer,
            color=one.look.colour,
            linestyle=one.look.line,
            linewidth=1.8,
            marker=one.look.marker if len(layers) <= 12 else None,
            markersize=5,
            label=one.label,
          )
    place.set_title(scheme.text(length))
    place.set_xlabel("layer")
    place.locator_params(axis="x", integer=True, nbins=8)
    place.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    place.set_ylim(0, place.get_ylim()[1])
  for row in axes:
    row[0].set_ylabel("attention mass on the evidence")
  hide(axes.flat[len(lengths) :])
  series_legend(figure)
  save(figure, path)
  return Figure(
    path,
    "Attention mass by layer",
    "Mean over heads, questions and the answer's tokens, of each layer; each length has its"
    " own scale, and there are no error bars."
    + left_out([cell.length for cell in measured], lengths),
  )
