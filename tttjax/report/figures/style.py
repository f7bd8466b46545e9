"""What the figures share besides their lines: sizes, fonts, panels, the legend, saving."""

from collections.abc import Sequence
import dataclasses
import io
import pathlib

import matplotlib

matplotlib.use("Agg")  # no display, here or on a server
from matplotlib import pyplot as plt
import numpy as np
from PIL import Image

from tttjax.files import replacing

PHASES = {"prefill": "#BBBBBB", "adapt": "#0072B2", "generate": "#E69F00"}
OTHER_PHASE = "#009E73"
MAX_PANELS = 8  # lengths that get a panel of their own
_MAX_COLUMNS = 4
# Inches of panels; a legend needs them even where there is one small panel.
_NARROWEST = 6.5
RC = {
  "font.size": 11,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.titlesize": 11,
  "axes.axisbelow": True,
  "legend.frameon": False,
  "text.parse_math": False,  # names of models and runs are text, $ and all
}


@dataclasses.dataclass(frozen=True)
class Figure:
  """A file that was drawn, with what the report says about it."""

  path: pathlib.Path
  title: str
  caption: str


def some_lengths(lengths: Sequence[int]) -> list[int]:
  """At most MAX_PANELS, the shortest and the longest among them, evenly spaced in order."""
  lengths = sorted(set(lengths))
  if len(lengths) <= MAX_PANELS:
    return lengths
  places = np.linspace(0, len(lengths) - 1, MAX_PANELS).round().astype(int)
  return [lengths[i] for i in np.unique(places)]


def left_out(lengths: Sequence[int], drawn: Sequence[int]) -> str:
  """The end of a caption that says which lengths have no panel; '' where all have one."""
  missing = sorted(set(lengths) - set(drawn))
  if not missing:
    return ""
  return f" Not drawn, but in the tables: {', '.join(f'{n:,}' for n in missing)}."


def arrangement(panels: int) -> tuple[int, int]:
  """(rows, columns) of so many panels: at most four side by side, rows of nearly equal length."""
  rows = -(-panels // _MAX_COLUMNS)
  return rows, -(-panels // rows)


def legend(figure: plt.Figure, handles: Sequence, labels: Sequence[str]) -> None:
  """One legend above all panels, in as few rows as the width allows; the figure grows by it."""
  for rows in range(1, len(handles) + 1):
    drawn = figure.legend(
      handles,
      labels,
      loc="outside upper center",
      ncols=-(-len(handles) // rows),
      columnspacing=1.6,
    )
    size = drawn.get_window_extent(figure.canvas.get_renderer())
    if size.width <= figure.bbox.width:
      break
    if rows < len(handles):
      drawn.remove()
  figure.set_figheight(figure.get_figheight() + size.height / figure.dpi)


def series_legend(figure: plt.Figure) -> None:
  """The legend of all lines that any panel has a label for."""
  found = {}
  for axes in figure.axes:
    for handle, label in zip(*axes.get_legend_handles_labels()):
      found.setdefault(label, handle.lines[0] if hasattr(handle, "lines") else handle)
  legend(figure, list(found.values()), list(found))


def canvas(
  rows: int, columns: int, width: float, height: float, labels: Sequence[str] = (), **options
):
  """(figure, axes [rows, columns]) of panels `width` x `height` inches.

  `labels` are those that will stand beside the panels.
  """
  room = 0.08 * max(map(line_length, labels), default=0)
  size = max(width * columns, _NARROWEST) + room, height * rows
  return plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)


def line_length(label: str) -> int:
  """Characters of a label's longest line."""
  return max(map(len, label.split("\n")))


def hide(places) -> None:
  """Leaves panels empty that a grid has too many."""
  for place in places:
    place.set_visible(False)


def save(figure: plt.Figure, path: pathlib.Path) -> None:
  """Writes the PNG, atomically. A palette keeps a report of many figures small."""
  buffer = io.BytesIO()
  figure.savefig(buffer, dpi=150, format="png", bbox_inches="tight", pad_inches=0.12)
  plt.close(figure)
  image = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
  with replacing(path) as temporary:
    image.save(temporary, format="PNG", optimize=True)
