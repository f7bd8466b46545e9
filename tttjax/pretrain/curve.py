"""The training curve: a CSV that grows while training, and its picture."""

import csv
import pathlib

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # pylint: disable=g-import-not-at-top

FIELDS = ("step", "tokens", "seconds", "loss", "answer_accuracy")


def read(path: pathlib.Path) -> list[dict[str, float]]:
  """Rows of a curve.csv, numbers where there are any; empty cells are left out."""
  if not path.exists():
    return []
  with path.open(encoding="utf-8", newline="") as file:
    return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def write(path: pathlib.Path, rows: list[dict[str, float]], evaluations: list[str]) -> None:
  """Writes the whole curve; `evaluations` are the names of the held-out columns."""
  with path.open("w", encoding="utf-8", newline="") as file:
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
  figure.savefig(path, dpi=120)
  plt.close(figure)
