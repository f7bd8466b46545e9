"""The page: what its templates are given, and writing it."""

import base64
from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import pathlib
from typing import Any

from PIL import Image

from tttjax.files import replacing
from tttjax.report.cell import Cell
from tttjax.report.comparing import Comparison
from tttjax.report.declining import Decline
from tttjax.report.figures import Figure
from tttjax.report.labels import model_labels, reference, strategy_label, task_label
from tttjax.report.page import configuration, failures, prose, tables
from tttjax.report.page.conclusions import caveat, findings, tuning
from tttjax.report.page.drilldown import examples
from tttjax.report.page.markup import Column, Table, Value, number, render
from tttjax.report.runs import Run
from tttjax.report.task_averages import averages

# Figures beyond this are linked, not embedded, so that the page stays one that opens at once.
_MAX_FIGURE_BYTES = 2_200_000
_SCALE = 0.64  # CSS pixels per pixel of a figure: its text is then as large as the page's
_MANY_CELLS = 60  # a longer table is folded


@dataclasses.dataclass(frozen=True)
class Content:
  """What the page is about.

  Attributes:
    runs: one, or several to compare.
    cells: of them.
    comparisons, declines: over all lengths.
    figures: by (task, model).
    units: of each task's lengths.
    stamp: time of the latest run's start.
  """

  runs: Sequence[Run]
  cells: Sequence[Cell]
  comparisons: Sequence[Comparison]
  declines: Sequence[Decline]
  figures: dict[tuple[str, str], list[Figure]]
  units: dict[str, str]
  stamp: str


def write(path: pathlib.Path, content: Content) -> None:
  """Writes the page, atomically."""
  cells, compared, runs = content.cells, content.comparisons, content.runs
  models = model_labels([cell.model for cell in cells])
  several = len({cell.run for cell in cells}) > 1
  page = render(
    "page.html.j2",
    ran=_what_ran(content, models),
    runs=_runs(runs) if len(runs) > 1 else None,
    smoke=any(run.config.get("smoke") for run in runs),
    failed=sum(cell.failures for cell in cells),
    unscored=sum(len(run.unscored) for run in runs),
    caveat=caveat(compared),
    groups=list(_groups(content, models, several, path)),
    averages=[
      (task_label(benchmark), tables.averaged(list(own), models, several))
      for benchmark, own in itertools.groupby(averages(cells), key=lambda a: a.benchmark)
    ],
    comparisons=tables.comparisons(compared, models, several) if compared else None,
    tuning=tuning(cells),
    examples=examples(runs, models, content.units),
    failures=failures.messages(runs, models),
    base=strategy_label(reference()),
    strategies=prose.strategies(cell.strategy for cell in cells),
    tasks=prose.tasks(cell.task for cell in cells),
    fields=configuration.fields(runs),
    files=[(run.label, configuration.files(run, path)) for run in runs],
    results=_existing(path.parent / f"results_{content.stamp}.json", path),
  )
  with replacing(path) as temporary:
    temporary.write_text(page, encoding="utf-8")


def _groups(
  content: Content, models: dict[str, str], several: bool, page: pathlib.Path
) -> Iterator[dict[str, Any]]:
  """What is shown of each task and model."""
  holm_p = tables.corrected(content.cells)
  groups = {g: list(own) for g, own in itertools.groupby(content.cells, key=lambda c: c.group)}
  found = findings(content.cells, content.comparisons, content.declines, models, content.units)
  figures = _pictures([content.figures.get(f.group, []) for f in found], page)
  for finding, pictures in zip(found, figures):
    own = groups[finding.group]
    yield {
      "finding": finding,
      "figures": pictures,
      "scores": tables.scores(own, holm_p, several),
      "slices": tables.slices(own, several),
      "costs": tables.costs(own, several),
      "many": len(own) > _MANY_CELLS,
    }


def _pictures(groups: Sequence[Sequence[Figure]], page: pathlib.Path) -> list[list[dict[str, Any]]]:
  """Figures with their sources: embedded, and linked once these are large enough together."""
  shown: list[list[dict[str, Any]]] = [[] for _ in groups]
  size = 0
  for rank in range(max(map(len, groups), default=0)):  # every group's first before any second
    for figures, own in zip(groups, shown):
      for figure in figures[rank : rank + 1]:
        data = figure.path.read_bytes()
        size += len(data) * 4 // 3
        link = configuration.link(figure.path, page)
        embedded = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
        with Image.open(figure.path) as image:
          width, height = (round(side * _SCALE) for side in image.size)
        own.append(
          {
            "title": figure.title,
            "caption": figure.caption,
            "source": embedded if size <= _MAX_FIGURE_BYTES else link,
            "link": link,
            "width": width,
            "height": height,
          }
        )
  return shown


def _what_ran(content: Content, models: dict[str, str]) -> dict[str, Any]:
  cells = content.cells
  contexts = sorted({cell.score.clusters for cell in cells})
  units = list(dict.fromkeys(content.units.values()))
  return {
    "tasks": list(dict.fromkeys(task_label(cell.task) for cell in cells)),
    "models": list(dict.fromkeys(models.values())),
    "lengths": [f"{n:,}" for n in sorted({cell.length for cell in cells})],
    "unit": " or ".join(units),
    "contexts": f"{contexts[0]}" if len(contexts) == 1 else f"{contexts[0]} to {contexts[-1]}",
    "predictions": f"{sum(len(run.rows) for run in content.runs):,}",
    "started": _time(content.stamp),
  }


def _runs(runs: Sequence[Run]) -> Table:
  columns = [
    Column("run", text=True, main=True),
    Column("directory", text=True),
    Column("predictions", "how many"),
    Column("started", text=True),
  ]
  rows = [
    [Value(r.label), Value(str(r.directory), code=True), number(len(r.rows)), Value(_time(r.stamp))]
    for r in runs
  ]
  return Table(columns, rows)


def _existing(path: pathlib.Path, page: pathlib.Path) -> tuple[str, str] | None:
  return (path.name, configuration.link(path, page)) if path.is_file() else None


def _time(stamp: str) -> str:
  """'2025-01-02 03:04' of '2025-01-02T03-04-05'."""
  day, _, clock = stamp.partition("T")
  return " ".join(filter(None, (day, ":".join(clock.split("-")[:2]))))
