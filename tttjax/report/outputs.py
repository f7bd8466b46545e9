"""Everything that is a function of the rows: printed table, figures, results file and page."""

from collections.abc import Sequence
import pathlib

from tttjax import tasks
from tttjax.errors import UserError
from tttjax.files import write_json
from tttjax.report import figures, page
from tttjax.report.comparing import comparisons, decline
from tttjax.report.labels import family_of
from tttjax.report.printed import table
from tttjax.report.results_file import results
from tttjax.report.runs import Run, read_run
from tttjax.report.summary import cells


def build(
  directories: Sequence[pathlib.Path], out: pathlib.Path, labels: Sequence[str]
) -> pathlib.Path:
  """Writes everything that is a function of the rows and prints the table.

  Args:
    directories: work directories.
    out: where report.html, figures/*.png and results_<stamp>.json go.
    labels: one per directory; how tables and figures call the run. '' for a single one.

  Returns:
    Path of the page.

  Raises:
    UserError: a directory without rows, a broken file, or two runs with one label.
  """
  if len(set(labels)) < len(labels):
    raise UserError(f"runs need different labels, not {', '.join(labels)}; name each run once")
  runs = [read_run(pathlib.Path(d), label) for d, label in zip(directories, labels, strict=True)]
  stamp = max(run.stamp for run in runs)
  found, compared = cells(runs), comparisons(runs)
  units = _units(runs)
  drawn = figures.draw(found, out / "figures", units)
  write_json(out / f"results_{stamp}.json", results(runs, found, compared, stamp))
  path = out / "report.html"
  page.write(path, page.Content(runs, found, compared, decline(runs), drawn, units, stamp))
  print(table(found))
  print(f"\n{path}")
  return path


def _units(runs: Sequence[Run]) -> dict[str, str]:
  """What the lengths of each task count: tokens, or the task's own unit."""
  units: dict[str, set[str]] = {}
  for run in runs:
    native = run.config.get("unit") == "native"
    for task in dict.fromkeys(row["task"] for row in run.rows):
      own = getattr(tasks.TASKS.get(family_of(task)), "unit", "units") if native else "tokens"
      units.setdefault(task, set()).add(own)
  for task, names in units.items():
    if len(names) > 1:
      raise UserError(
        f"{task}: its lengths count {' in one run and '.join(sorted(names))} in another (field"
        " unit of config.json); compare runs of one unit"
      )
  return {task: names.pop() for task, names in units.items()}
