"""The page: its sections in order, its style, and writing it."""

import base64
from collections.abc import Sequence
import dataclasses
import itertools
import os
import pathlib

from PIL import Image

from tttjax.files import replacing
from tttjax.report.comparing import Comparison, Decline
from tttjax.report.figures import Figure
from tttjax.report.labels import count, model_labels, task_label
from tttjax.report.page import prose, tables
from tttjax.report.page.drilldown import examples
from tttjax.report.page.findings import verdict
from tttjax.report.page.markup import details, table, text
from tttjax.report.runs import Run
from tttjax.report.summary import Cell

# Figures beyond this are linked, not embedded, so that the page stays one that opens at once.
_MAX_FIGURE_BYTES = 2_200_000
_SCALE = 0.64  # CSS pixels per pixel of a figure: its text is then as large as the page's
_MANY_CELLS = 60  # a longer table is folded

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; color: #222;
  max-width: 70rem; margin: 0 auto; padding: 1rem; background: #fff; overflow-wrap: break-word; }
h1, h2, h3, h4 { line-height: 1.25; } h1 { margin: 0.6rem 0; font-size: 1.8rem; }
h2 { margin-top: 2.4rem; border-bottom: 1px solid #ccc; padding-bottom: 0.2rem; }
h4 { margin: 1.2rem 0 0.3rem; } p, dd, li { max-width: 50rem; } nav a { margin-right: 1rem; }
table { border-collapse: collapse; font-size: 0.81rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.42rem; text-align: right; border-bottom: 1px solid #e2e2e2;
  white-space: nowrap; vertical-align: top; }
th { vertical-align: bottom; border-bottom: 1px solid #888; } .l { text-align: left; }
td.l code { white-space: pre-wrap; overflow-wrap: anywhere; }
tr.b td { border-top: 2px solid #999; } tbody tr:hover { background: #f4f8fb; }
.scroll { overflow-x: auto; margin: 0.6rem 0; }
figure { margin: 1.4rem 0; } figcaption { font-size: 0.9rem; color: #444; max-width: 50rem; }
figcaption b { color: #222; } .picture { overflow-x: auto; } img { max-width: 100%; height: auto; }
dt { font-weight: 600; } dd { margin: 0 0 0.6rem 1.2rem; }
code { background: #f3f3f3; padding: 0 0.15em; border-radius: 2px; font-size: 0.95em; }
details { margin: 0.5rem 0; } summary { cursor: pointer; }
td details { margin: 0; font-size: 0.95em; }
.verdict { background: #f2f7fb; border-left: 4px solid #0072b2; padding: 0.4rem 1rem; }
.warning { background: #fdf3e1; border-left: 4px solid #e69f00; padding: 0.4rem 1rem; }
.note, .head { font-size: 0.88rem; color: #555; }
.head { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.2rem 0; }
.context { border-left: 3px solid #ddd; padding-left: 0.8rem; margin: 0.8rem 0; }
.q { white-space: pre-wrap; overflow-wrap: anywhere; margin-bottom: 0.2rem; }
.context td.l { white-space: normal; min-width: 4.5rem; }
.context td:nth-child(3) { min-width: 9rem; }
.yes { color: #00704f; } .no { color: #b04a00; }
svg.curve polyline { fill: none; stroke: #0072b2; stroke-width: 1.5; }
svg .c { fill: #eee; } svg .e { fill: #d55e00; } svg .s { fill: #0072b2; fill-opacity: 0.55; }
.ek { color: #b04a00; } .sk { color: #0072b2; }
@media (max-width: 700px) {
  body { padding: 0.6rem; font-size: 15px; } h1 { font-size: 1.4rem; } dd { margin-left: 0.6rem; }
  .picture img { max-width: 720px; } .picture::before { content: 'scrolls sideways'; color: #777;
    font-size: 0.8rem; position: sticky; left: 0; } ul { padding-left: 1.2rem; }
  th, td { padding: 0.2rem 0.4rem; } nav a { display: inline-block; }
}
"""


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
  cells = content.cells
  models = model_labels([cell.model for cell in cells])
  several = len({cell.run for cell in cells}) > 1
  groups = {g: list(own) for g, own in itertools.groupby(cells, key=lambda cell: cell.group)}
  failed = tables.failures(content.runs)
  sections = [
    (
      "Findings",
      "findings",
      '<div class="verdict">'
      + verdict(cells, content.comparisons, content.declines, models, content.units)
      + "</div>",
    ),
    ("Figures", "figures", _figures(content.figures, models, path)),
    ("All numbers", "numbers", _numbers(groups, models, several)),
    ("What was compared", "strategies", prose.strategies([cell.strategy for cell in cells])),
    ("How to read it", "reading", prose.READING),
    (
      "Examples",
      "examples",
      "<p>Some contexts of every length, those with a failure first: what each strategy said.</p>"
      + examples(content.runs, models, content.units),
    ),
    (
      "Failures and fallbacks",
      "failures",
      failed or "<p>None: every example ran, and every adaptation was finite.</p>",
    ),
    ("Configuration", "configuration", tables.configuration(content.runs)),
  ]
  links = "".join(f'<a href="#{anchor}">{title}</a>' for title, anchor, _ in sections)
  body = "".join(f'<h2 id="{anchor}">{title}</h2>{inside}' for title, anchor, inside in sections)
  page = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>Test-time training of long contexts</title><style>{_STYLE}</style></head><body>"
    f"<h1>Test-time training of long contexts</h1>{prose.INTRODUCTION}"
    f"{_what_ran(content, models)}<nav>{links}</nav>{body}</body></html>\n"
  )
  with replacing(path) as temporary:
    temporary.write_text(page, encoding="utf-8")


def _what_ran(content: Content, models: dict[str, str]) -> str:
  cells, runs = content.cells, content.runs
  rows = sum(len(run.rows) for run in runs)
  contexts = sorted({cell.score.clusters for cell in cells})
  lengths = sorted({cell.length for cell in cells})
  number = f"{contexts[0]}" if len(contexts) == 1 else f"{contexts[0]} to {contexts[-1]}"
  tasks = ", ".join(dict.fromkeys(task_label(cell.task) for cell in cells))
  units = " or ".join(dict.fromkeys(content.units.values()))
  names = ", ".join(dict.fromkeys(models.values()))
  what = (
    f"<p><b>This run:</b> {text(tasks)}; model {text(names)}; lengths"
    f" {', '.join(f'{n:,}' for n in lengths)} {text(units)}; {number} contexts per length and"
    f" strategy; {rows:,} predictions; started {text(_time(content.stamp))}.</p>"
  )
  if len(runs) > 1:
    what = what.replace("This run:", f"{len(runs)} runs:").replace("started", "the latest started")
    listed = [
      [text(run.label), text(run.directory), f"{len(run.rows):,}", text(_time(run.stamp))]
      for run in runs
    ]
    what += details("The runs", table(["run", "directory", "rows", "started"], listed, (0, 1)))
  if any(run.config.get("smoke") for run in runs):
    what += (
      '<p class="warning">A smoke run: sizes are reduced to see that everything works. Its'
      " numbers say nothing about the strategies.</p>"
    )
  return what


def _time(stamp: str) -> str:
  """'2025-01-02 03:04' of '2025-01-02T03-04-05'."""
  day, _, clock = stamp.partition("T")
  return " ".join(filter(None, (day, ":".join(clock.split("-")[:2]))))


def _numbers(groups, models: dict[str, str], several: bool) -> str:
  holm_p = tables.corrected([cell for own in groups.values() for cell in own])
  parts = [
    f'<p class="note">p, Holm: corrected for the {count(len(holm_p), "comparison")} of these'
    " tables.</p>"
    if holm_p
    else ""
  ]
  for (task, model), own in groups.items():
    title = f"{text(task_label(task))}, {text(models[model])}"
    shown = len(own) <= _MANY_CELLS
    if len(groups) > 1:
      parts.append(f"<h3>{title}</h3>")
    scores = tables.scores_table(own, holm_p, several)
    parts.append(scores if shown else details(f"Scores: {len(own)} lines", scores))
    parts.append(details("Cost: FLOPs, budgets, seconds", tables.costs_table(own, several), shown))
  return "".join(parts)


def _figures(figures, models: dict[str, str], page: pathlib.Path) -> str:
  parts, size = [], 0
  for (task, model), own in figures.items():
    if len(figures) > 1:
      parts.append(f"<h3>{text(task_label(task))}, {text(models[model])}</h3>")
    for figure in own:
      data = figure.path.read_bytes()
      size += len(data) * 4 // 3
      source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
      if size > _MAX_FIGURE_BYTES:
        source = text(pathlib.PurePath(os.path.relpath(figure.path, page.parent)).as_posix())
      with Image.open(figure.path) as image:
        width = round(image.width * _SCALE)
      parts.append(
        f'<figure><div class="picture"><img alt="{text(figure.title)}" width="{width}"'
        f' src="{source}"></div><figcaption><b>{text(figure.title)}.</b> {text(figure.caption)}'
        "</figcaption></figure>"
      )
  if size > _MAX_FIGURE_BYTES:
    parts.append(
      '<p class="note">The later figures are not part of this file; they stand beside it'
      " in the directory of figures.</p>"
    )
  return "".join(parts)
