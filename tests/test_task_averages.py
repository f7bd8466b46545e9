"""Averages over the tasks of a benchmark, of one family or of several, on invented rows."""

import pathlib

import pytest

from tests import synthetic_rows
from tttjax.report import rows_to_cells
from tttjax.report.printed import table
from tttjax.report.runs import Run
from tttjax.report.task_averages import averages

NEEDLES = ("needles(kind=single)", "needles(kind=kv)")
RULER = (*NEEDLES, "common_words", "frequent_words", "ruler_qa(source=dev.json)")
STRATEGIES = ("in_context", "qttt")


def run_of(tasks, label="run"):
  rows = [
    row
    for task in tasks
    for row in synthetic_rows.rows(STRATEGIES, (256, 512), contexts=6, task=task, mechanism=False)
  ]
  return Run(label, pathlib.Path("runs") / label, {}, rows, "2025-01-02T03-04-05")


def named(cells):
  return {(average.run, average.benchmark, average.tasks) for average in averages(cells)}


def test_families_that_name_one_benchmark_are_averaged_by_length():
  cells = rows_to_cells.cells([run_of((*RULER, "bank_log"))])
  found = averages(cells)
  assert [(a.benchmark, a.length, a.strategy, a.tasks) for a in found] == [
    ("RULER", length, strategy, 5) for length in (256, 512) for strategy in STRATEGIES
  ]
  for average in found:
    place = average.strategy, average.length
    own = [c for c in cells if (c.strategy, c.length) == place and c.task in RULER]
    assert average.score.mean == pytest.approx(sum(cell.score.mean for cell in own) / 5)
    if average.strategy == "qttt":
      assert average.gain.mean == pytest.approx(sum(c.gain.gain.mean for c in own) / 5)
  assert "RULER, mean of 5 tasks" in table(cells)


@pytest.mark.parametrize(
  "tasks, named_so",
  [
    ((*NEEDLES, "bank_log"), {("run", "needles", 2)}),  # one family alone is called by itself
    (("needles", "common_words"), {("run", "RULER", 2)}),
    (("needles", "bank_log", "code_bugs"), set()),
    (("bank_log", "bank_log(kind=amount)", "common_words"), {("run", "bank_log", 2)}),
    ((*NEEDLES, "needles(absent=on)"), {("run", "needles", 2)}),  # the control does not count
    (("needles", "needles(absent=on)"), set()),
    (("needles(kind=single, absent=on)", "needles", "common_words"), {("run", "RULER", 2)}),
  ],
)
def test_what_is_averaged_follows_from_the_families_of_a_run(tasks, named_so):
  assert named(rows_to_cells.cells([run_of(tasks)])) == named_so


def test_each_run_is_averaged_by_itself():
  cells = rows_to_cells.cells([run_of(NEEDLES, "a"), run_of(RULER, "b")])
  assert named(cells) == {("a", "needles", 2), ("b", "RULER", 5)}
