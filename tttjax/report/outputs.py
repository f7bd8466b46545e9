"""Everything that is a function of the rows: printed table, figures, results file and page."""

from collections.abc import Sequence
import dataclasses
import pathlib
import re
import sys

from tttjax import tasks
from tttjax.errors import UserError
from tttjax.files import read_json, write_json
from tttjax.report import figures, page
from tttjax.report.comparing import comparisons
from tttjax.report.declining import decline
from tttjax.report.printed import table
from tttjax.report.results_file import results
from tttjax.report.rows_to_cells import cells
from tttjax.report.run_names import run_labels
from tttjax.report.runs import Run, read_run
from tttjax.report.submissions import write_submissions

_A_FIGURE = re.compile(r"\w+\.png")


def build(
  directories: Sequence[pathlib.Path], out: pathlib.Path, notes: Sequence[str] | None = None
) -> pathlib.Path | None:
  """Writes everything that is a function of the rows and prints the table.

  Args:
    directories: work directories.
    out: where report.html, figures/*.png and results_<stamp>.json go.
    notes: of each run, '' or what stands in parentheses behind its name. Several runs are named by
      what differs in their configs.

  Returns:
    Path of the page; None where no prediction is scored.

  Raises:
    UserError: a directory without rows, a broken file, or a directory given twice.
  """
  runs = _named([read_run(pathlib.Path(directory)) for directory in directories], notes)
  stamp = max(run.stamp for run in runs)
  folders = write_submissions(runs, out)
  if folders:
    print(f"{out / 'submissions'}: {len(folders)} folders of predictions", file=sys.stderr)
  if unscored := sum(len(run.unscored) for run in runs):
    print(f"{unscored:,} predictions have no public reference: not scored", file=sys.stderr)
  runs = [run for run in runs if run.rows]
  if not runs:
    return None
  found, compared = cells(runs), comparisons(runs)
  units = _units(runs)
  before = _figures_of(out)
  drawn = figures.draw(found, out / "figures", units)
  names = [figure.path.name for group in drawn.values() for figure in group]
  write_json(out / f"results_{stamp}.json", results(runs, found, compared, names, stamp))
  for name in before - set(names):
    (out / "figures" / name).unlink(missing_ok=True)
  path = out / "report.html"
  page.write(path, page.Content(runs, found, compared, decline(runs), drawn, units, stamp))
  print(table(found))
  print(path, file=sys.stderr)
  return path


def _figures_of(out: pathlib.Path) -> set[str]:
  """The files in figures/ that the reports written to `out` before list as theirs."""
  names: set[str] = set()
  for path in out.glob("results_*.json"):
    try:
      listed = read_json(path).get("figures")
    except UserError:
      continue  # not ours
    if isinstance(listed, list):
      names |= {name for name in listed if isinstance(name, str) and _A_FIGURE.fullmatch(name)}
  return names


def _named(runs: Sequence[Run], notes: Sequence[str] | None) -> list[Run]:
  """The runs with labels that tell them apart."""
  labels = run_labels([run.config for run in runs], [str(run.directory) for run in runs])
  if len(set(labels)) < len(labels):
    raise UserError(f"{', '.join(labels)}: give each run once")
  return [
    dataclasses.replace(run, label=f"{label} ({note})".strip() if note else label)
    for run, label, note in zip(runs, labels, notes or [""] * len(runs), strict=True)
  ]


def _units(runs: Sequence[Run]) -> dict[str, str]:
  """What the lengths of each task count: tokens, or the task's own unit."""
  units: dict[str, set[str]] = {}
  for run in runs:
    native = run.config.get("unit") == "native"
    for task, family in dict.fromkeys((row["task"], row["task_family"]) for row in run.rows):
      own = getattr(tasks.TASKS.get(family), "unit", "units") if native else "tokens"
      units.setdefault(task, set()).add(own)
  for task, names in units.items():
    if len(names) > 1:
      raise UserError(
        f"{task}: its lengths count {' in one run and '.join(sorted(names))} in another (field"
        " unit of config.json); compare runs of one unit"
      )
  return {task: names.pop() for task, names in units.items()}
