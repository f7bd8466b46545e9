"""Rebuilds the report of a run from its rows, or compares several runs.

  python -m tttjax.report DIR [DIR...] [--out=DIR]

Reads the work directories' samples_*.jsonl and config.json, and writes report.html, figures/*.png
and results_*.json into --out: by default the work directory itself, or `comparison` where several
are given. Nothing in a work directory but these outputs is changed, so a run may still be going on.
"""

import argparse
import pathlib
import sys
from typing import Sequence

from tttjax import tasks
from tttjax.errors import UserError
from tttjax.evaluation import figures
from tttjax.evaluation import report
from tttjax.evaluation.comparisons import comparisons, decline
from tttjax.evaluation.labels import family_of, short_names
from tttjax.evaluation.records import write_json
from tttjax.evaluation.results import results
from tttjax.evaluation.rows import Run, read_run
from tttjax.evaluation.summary import cells
from tttjax.evaluation.table import table

_COMPARISON = 'comparison'


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
    raise UserError(f'runs need different labels, not {", ".join(labels)}; name each run once')
  runs = [read_run(pathlib.Path(d), label) for d, label in zip(directories, labels, strict=True)]
  stamp = max(run.stamp for run in runs)
  found, compared = cells(runs), comparisons(runs)
  units = _units(runs)
  drawn = figures.draw(found, out / 'figures', units)
  write_json(out / f'results_{stamp}.json', results(runs, found, compared, stamp))
  page = out / 'report.html'
  report.write(
      page, report.Content(runs, found, compared, decline(runs), drawn, units, stamp))
  print(table(found))
  print(f'\n{page}')
  return page


def _units(runs: Sequence[Run]) -> dict[str, str]:
  """What the lengths of each task count: tokens, or the task's own unit."""
  units: dict[str, set[str]] = {}
  for run in runs:
    native = run.config.get('unit') == 'native'
    for task in dict.fromkeys(row['task'] for row in run.rows):
      own = getattr(tasks.TASKS.get(family_of(task)), 'unit', 'units') if native else 'tokens'
      units.setdefault(task, set()).add(own)
  for task, names in units.items():
    if len(names) > 1:
      raise UserError(
          f'{task}: its lengths count {" in one run and ".join(sorted(names))} in another (field'
          ' unit of config.json); compare runs of one unit')
  return {task: names.pop() for task, names in units.items()}


def main(arguments: Sequence[str]) -> int:
  """The command; returns its exit code, 2 for a user's mistake."""
  parser = argparse.ArgumentParser(
      'python -m tttjax.report', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('directories', metavar='DIR', nargs='+', type=pathlib.Path)
  parser.add_argument('--out', metavar='DIR', type=pathlib.Path, help='where the outputs go')
  given = parser.parse_args(arguments)
  directories = list(dict.fromkeys(d.resolve() for d in given.directories))
  several = len(directories) > 1
  out = given.out or (pathlib.Path(_COMPARISON) if several else directories[0])
  labels = short_names([str(d) for d in directories]) if several else ['']
  try:
    build(directories, out, labels)
  except UserError as error:
    print(f'{parser.prog}: error: {error}', file=sys.stderr)
    return 2
  except OSError as error:
    print(f'{parser.prog}: error: --out={out}: {error.strerror}; choose another directory',
          file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
