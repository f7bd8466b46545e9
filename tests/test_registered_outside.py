"""A strategy and a task that the package has never heard of, in all that a report makes."""

import dataclasses
import json
from typing import ClassVar

import pytest

from tests import synthetic_rows
from tttjax import report
from tttjax.report import figures, rows_to_cells
from tttjax.report.comparing import comparisons
from tttjax.report.figures import series
from tttjax.report.runs import read_run
from tttjax.spec import option
from tttjax.strategies import STRATEGIES, Role
from tttjax.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class Rereading:
  """An invented strategy."""

  name: ClassVar[str] = "rereading"
  label: ClassVar[str] = "reading again"
  description: ClassVar[str] = "The model reads the context twice."
  role: ClassVar[Role] = Role.METHOD
  compared_with: ClassVar[tuple[str, ...]] = ("skimming",)

  times: int = option(2, "{} times")


@dataclasses.dataclass(frozen=True)
class Skimming:
  """Its control."""

  name: ClassVar[str] = "skimming"
  label: ClassVar[str] = "skimming (control)"
  description: ClassVar[str] = "Every other line is read."
  role: ClassVar[Role] = Role.CONTROL

  times: int = option(2, "{} times")


@dataclasses.dataclass(frozen=True)
class Riddles:
  """An invented task."""

  label: ClassVar[str] = "old riddles"
  unit: ClassVar[str] = "verses"

  era: str = option("any", "of the {} era")


TASK = "riddles(era=stone)"
SPECS = ("in_context", "rereading", "rereading(times=3)", "skimming(times=3)")


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A work directory of the invented strategies on the invented task."""
  for kind in (Rereading, Skimming):
    monkeypatch.setitem(STRATEGIES, kind.name, kind)
  monkeypatch.setitem(TASKS, "riddles", Riddles)
  rows = synthetic_rows.rows(SPECS, (25, 50), contexts=4, task=TASK, mechanism=False)
  return synthetic_rows.write(tmp_path, rows, unit="native")


def test_table_results_and_page_call_them_by_their_labels(run, capsys):
  page = report.build([run], run).read_text(encoding="utf-8")
  printed = capsys.readouterr().out
  value = json.loads(next(run.glob("results_*.json")).read_text(encoding="utf-8"))
  assert {cell["label"] for cell in value["cells"]} == {
    "in-context",
    "reading again",
    "reading again, 3 times",
    "skimming (control), 3 times",
  }
  for text in (page, printed):
    assert "old riddles, of the stone era" in text
    assert "reading again, 3 times" in text and "skimming (control), 3 times" in text
  assert "50 verses" in page


def test_figures_draw_them_by_their_roles(run, tmp_path):
  cells = rows_to_cells.cells([read_run(run)])
  made = figures.draw(cells, tmp_path / "figures", {TASK: "verses"})
  assert {figure.path.stem for figure in made[TASK, "embedded"]} == {"accuracy", "cost", "latency"}
  drawn = series.scheme(cells, "verses", series.looks_of(cells)).series(cells)
  lines = {one.label: one.look.line for one in drawn}
  assert lines["skimming (control), 3 times"] == "--" and lines["reading again"] == "-"
  assert len({one.look.colour for one in drawn}) == 4


def test_they_are_compared_with_the_reference_and_with_what_they_name_of_the_same_options(run):
  made = [(c.treatment, c.baseline) for c in comparisons([read_run(run)])]
  assert made == [
    ("rereading", "in_context"),
    ("rereading(times=3)", "in_context"),
    ("rereading(times=3)", "skimming(times=3)"),
    ("skimming(times=3)", "in_context"),
  ]


def test_names_that_are_not_registered_any_more_are_shown_as_they_are(tmp_path, capsys):
  rows = synthetic_rows.rows(
    ("in_context", "lost_idea(depth=3)"), (25,), contexts=4, task="lost_task", mechanism=False
  )
  synthetic_rows.write(tmp_path, rows, unit="native")
  page = report.build([tmp_path], tmp_path).read_text(encoding="utf-8")
  printed = capsys.readouterr().out
  for text in (page, printed):
    assert "lost idea, depth 3" in text and "lost task" in text
