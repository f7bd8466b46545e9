"""The training curve: a CSV that grows while training, and its picture."""

import csv
import os
import pathlib

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # pylint: disable=g-import-not-at-top

from tttjax.errors import UserError
from tttjax.files import read_regular, replacing

FIELDS = ("step", "tokens", "seconds", "loss", "answer_accuracy")


def read(path: pathlib.Path) -> list[dict[str, float]]:
  """Rows of a curve.csv, numbers where there are any; empty cells are left out.

  Raises:
    UserError: it is no such file.
  """
  if not os.path.lexists(path):
    return []
  lines = read_regular(path).decode("utf-8", "replace").splitlines()
  try:
    rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(lines)]
    if any(set(FIELDS) - set(row) for row in rows):
      raise ValueError(f"a row lacks one of {', '.join(FIELDS)}")
    return rows
  except (TypeError, ValueError, csv.Error) as error:
    raise UserError(f"{path}: not the curve of a run ({error}); restore or remove it") from None


def write(path: pathlib.Path, rows: list[dict[str, float]], evaluations: list[str]) -> None:
  """Writes the whole curve; `evaluations` are the names of the held-out columns."""
  with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
    writer = csv.DictWriter(file, [*FIELDS, *evaluations], restval="")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in rows)


def draw(path: pathlib.Path, curves: dict[str, list[dict[str, float]]]) -> None:
  """Draws loss and held-out accuracy against training tokens, one line style per run."""
  figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
  for (name, rows), style in zip(curves.items(), ("-", "--", ":", "-.")):
    tokens = [row["tokens"] / 1e6 for row in rows]
    left.plot(tokens, [row["loss"] for row in rows], style, color="black", lw=1, label=name)
    columns = sorted({key for row in rows for key in row if key not in FIELDS})
    for color, column in enumerate(columns):
      points = [(row["tokens"] / 1e6, row[column]) for row in rows if column in row]
      right.plot(*zip(*points), style, color=f"C{color}", label=f"{column}, {name}")
  left.set(xlabel="training tokens (millions)", ylabel="loss (nats per unit of weight)")
  right.set(xlabel="training tokens (millions)", ylabel="held-out accuracy", ylim=(-0.02, 1.02))
  for axes in (left, right):
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
  left.legend(fontsize=7)
  if right.lines:
    right.legend(fontsize=6)
  with replacing(path) as temporary:
    figure.savefig(temporary, dpi=120)
  plt.close(figure)
