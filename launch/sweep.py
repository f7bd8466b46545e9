"""Runs a config once per cell of a sweep, and merges the cells into one report.

  python -m launch.sweep --config=configs/sandbox.py --sweep=configs/sweeps/steps_vs_thinking.py \\
      --name=NAME [--config.FIELD=VALUE ...] [--jobs=2] [--dry_run | --status | --collect]
  python -m launch.sweep ... --backend=slurm --sbatch=--partition=gpu --sbatch=--gpus=8 [--cancel]
  python -m launch.sweep ... --backend=gke --xpk=--cluster=C --xpk=--tpu-type=v5litepod-16 ...
  python -m launch.sweep ... --backend=jobset --pod=pod.yaml --nodes=4 [--queue=Q]

Cells go to runs/NAME/CELL, their output to runs/NAME/logs. Cells that are done are left
alone and interrupted ones continue, so the same command runs only what is missing.
"""

from collections.abc import Sequence
import pathlib
import re
import shlex
import sys
from typing import Any

from absl import flags
import ml_collections

from launch import cells as planning
from launch import run, schedulers, state
from launch.backend import QUEUED, RUNNING, Job, Scheduler, Watched
from launch.cells import Cell
from launch.local import Local
from tttjax import flags as command_line
from tttjax import interrupts
from tttjax.errors import UserError
from tttjax.experiment import run_fields

_DEFAULT_CONFIG = "configs/sandbox.py"
_SWEEP = flags.DEFINE_string("sweep", None, "Python file with get_sweep()")
_NAME = flags.DEFINE_string("name", None, "the sweep goes to runs/NAME")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "print the plan and the commands, start nothing")
_STATUS = flags.DEFINE_bool("status", False, "print how far every cell is, start nothing")
_COLLECT = flags.DEFINE_bool("collect", False, "write runs/NAME/report, start nothing")
_YES = flags.DEFINE_bool("yes", False, "hand cells to a scheduler without asking on a terminal")
_RATE = flags.DEFINE_float(
  "flops_per_second", None, "model FLOP/s that a cell sustains, such as 2e14: the plan shows hours"
)
_CANCEL = flags.DEFINE_bool("cancel", False, "with a scheduler: end the cells that wait or run")


def main(config: ml_collections.ConfigDict) -> int:
  """Plans and checks all cells, then shows, runs or collects them."""
  interrupts.uninstall()  # it has processes to stop
  directory = pathlib.Path("runs") / _checked_flags()
  at_once = schedulers.local_jobs()
  if at_once and _CANCEL.value:
    raise UserError("--cancel is for a scheduler; a local launcher is ended by Ctrl-C")
  config_file = _config_file(sys.argv)
  base = _differences(config, config_file)
  sweep = planning.load_sweep(_SWEEP.value)
  settings = _settings(config)
  state.check(directory, settings)
  cells = planning.plan(config_file, base, sweep)
  if at_once is None:
    place = schedulers.scheduler(directory, cells)
    return scheduled(directory, cells, place, config_file, settings)
  backend = Local()
  if _COLLECT.value:
    return collect(directory, cells, backend)
  if _STATUS.value or _DRY_RUN.value:
    print(table(directory, cells, backend))
    for cell in missing(directory, cells, backend) if _DRY_RUN.value else ():
      print(shlex.join(run.command(cell, state.workdir(directory, cell))))
    return 0

  original = _settings(command_line.load_config(config_file))

  def command(cell: Cell, workdir: pathlib.Path) -> list[str]:
    # Each cell reads the file anew; hours may have passed since the check.
    if _settings(command_line.load_config(config_file)) != original:
      raise UserError(
        f"{config_file} was changed while the sweep ran; put it back, or use another --name"
      )
    return run.command(cell, workdir)

  with state.only_launcher(directory):
    state.write_manifest(directory, config_file, settings, _SWEEP.value, cells)
    print(table(directory, cells, backend), flush=True)
    run.run(missing(directory, cells, backend), directory, backend, at_once, command)
    return finish(directory, cells, backend)


def scheduled(
  directory: pathlib.Path,
  cells: Sequence[Cell],
  place: Scheduler,
  config_file: str,
  settings: dict[str, Any],
) -> int:
  """Shows, collects, cancels, or hands the missing cells over; returns the exit code."""
  if _COLLECT.value:
    return collect(directory, cells, place)
  if _CANCEL.value:
    print(f"{place.cancel()} jobs are told to end; those that run save their rows first")
    return 0
  left = missing(directory, cells, place)
  jobs = [
    Job(
      tuple(run.command(cell, state.workdir(directory, cell))),
      state.log_file(directory, cell),
    )
    for cell in left
  ]
  if _STATUS.value or _DRY_RUN.value or not jobs:
    print(table(directory, cells, place))
    if _DRY_RUN.value and jobs:
      print(place.script(jobs), end="")
    elif not jobs and not _STATUS.value:
      print("nothing to submit: every cell is done or under way")
    return 0
  with state.only_launcher(directory):
    state.write_manifest(directory, config_file, settings, _SWEEP.value, cells)
    print(table(directory, cells, place), flush=True)
    if sys.stdin.isatty() and not _YES.value and not _confirmed(len(jobs)):
      print("nothing is submitted")
      return 0
    print(f"{place.submit(jobs)}; --status shows how far they are, --collect writes the report")
  return 0


def _confirmed(number: int) -> bool:
  return input(f"submit {number} cells? [y/N] ").strip().lower() in ("y", "yes")


def missing(directory: pathlib.Path, cells: Sequence[Cell], backend: Watched) -> list[Cell]:
  """The cells to run: neither done nor under way."""
  settled = (state.DONE, QUEUED, RUNNING)
  return [c for c in cells if state.read(directory, c, backend).status not in settled]


def table(directory: pathlib.Path, cells: Sequence[Cell], backend: Watched) -> str:
  """State, rows and estimated model FLOPs (and hours) of every cell, with totals."""
  names = planning.labels(cells)
  lines = [f"{'state':<12}{'rows':>14}{'est. FLOPs':>12}  cell"]
  rows = expected = done = left = 0
  for cell in cells:
    now = state.read(directory, cell, backend)
    # A finished cell may have less than planned, where contexts had no room for all questions.
    at_most = now.rows if now.status == state.DONE else cell.rows
    rows, expected, done = rows + now.rows, expected + at_most, done + (now.status == state.DONE)
    left += 0 if now.status == state.DONE else cell.flops
    shown = f"{now.rows}/{at_most}"
    lines.append(f"{now.status:<12}{shown:>14}{cell.flops:>12.1e}  {names[cell.slug]}")
  counts, shown = f"{done}/{len(cells)} done", f"{rows}/{expected}"
  total = sum(cell.flops for cell in cells)
  lines.append(f"{counts:<12}{shown:>14}{total:>12.1e}  {directory}")
  if 0 < done < len(cells):
    lines.append(f"{'':<26}{left:>12.1e}  of the cells that are not done")
  if _RATE.value and left:
    hours, longest = (x / _RATE.value / 3600 for x in (left, max(cell.flops for cell in cells)))
    lines.append(
      f"at {_RATE.value:.1e} model FLOP/s: {hours:.3g} hours of the cells that are not done,"
      f" {longest:.3g} of the longest cell"
    )
  known = (state.read_manifest(directory) or {"cells": {}})["cells"]
  if others := sorted(set(known) - {cell.slug for cell in cells}):
    lines.append(f"not in this sweep any more, left as they are: {', '.join(others)}")
  return "\n".join(lines)


def finish(directory: pathlib.Path, cells: Sequence[Cell], backend: Watched) -> int:
  """After a run: says what failed and why, or how to go on; returns the exit code."""
  failed, names = missing(directory, cells, backend), planning.labels(cells)
  if not failed:
    done = sum(state.read(directory, cell, backend).status == state.DONE for cell in cells)
    print(
      f"{done} of {len(cells)} cells done; --collect writes the report"
      + (", the others run under an earlier launcher" if done < len(cells) else "")
    )
    return 0
  print(f"{len(failed)} of {len(cells)} cells failed:", file=sys.stderr)
  for cell in failed:
    print(
      f"  {names[cell.slug]}: {state.last_words(directory, cell)}\n"
      f"    {state.log_file(directory, cell)}",
      file=sys.stderr,
    )
  print("the same command tries them again", file=sys.stderr)
  return 1


def collect(directory: pathlib.Path, cells: Sequence[Cell], backend: Watched) -> int:
  """Writes one report over every cell that has rows; cells not done are named in it.

  Raises:
    UserError: no cell has rows yet.
  """
  from tttjax import report  # pylint: disable=g-import-not-at-top; loads matplotlib

  directories, notes, names = [], [], planning.labels(cells)
  for cell in cells:
    now = state.read(directory, cell, backend)
    note = ""
    if now.status != state.DONE:
      note = f"{now.status}, {now.rows} of {cell.rows} rows"
      print(f"not complete: {names[cell.slug]} ({note})")
    if now.rows:
      directories.append(state.workdir(directory, cell))
      notes.append(note)
  if not directories:
    raise UserError(f"{directory}: no cell has rows yet; run the sweep first")
  report.build(directories, directory / "report", notes)
  print(f"{len(directories)} of {len(cells)} cells in {directory / 'report'}")
  return 0


def _settings(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The fields that rows depend on, by dotted name."""
  return {
    name: value
    for name, value in command_line.fields(config)
    if name not in ("workdir", "tensorboard")
  }


def _checked_flags() -> str:
  if not _SWEEP.value:
    raise UserError("--sweep is missing; e.g. --sweep=configs/sweeps/steps_vs_thinking.py")
  if not _NAME.value:
    raise UserError("--name is missing; the sweep goes to runs/NAME")
  if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", _NAME.value):
    raise UserError(f"--name={_NAME.value}: use letters, digits, dots, - and _ only")
  if _RATE.value is not None and not 0 < _RATE.value < float("inf"):
    raise UserError(f"--flops_per_second={_RATE.value} must be above 0 and finite")
  if _DRY_RUN.value + _STATUS.value + _COLLECT.value + _CANCEL.value > 1:
    raise UserError("--dry_run, --status, --collect and --cancel exclude each other; give one")
  return _NAME.value


def _config_file(argv: Sequence[str]) -> str:
  """The last --config=FILE or --config FILE of a command line that was parsed before."""
  path = _DEFAULT_CONFIG
  for index, argument in enumerate(argv):
    name, equals, value = argument.partition("=")
    if name in ("--config", "-config"):
      path = value if equals else argv[index + 1]
  return path


def _differences(config: ml_collections.ConfigDict, config_file: str) -> dict[str, Any]:
  """The fields that --config.FIELD=VALUE changed.

  Raises:
    UserError: workdir is one of them.
  """
  file = dict(command_line.fields(command_line.load_config(config_file)))
  changed = {n: value for n, value in command_line.fields(config) if value != file[n]}
  if "workdir" in changed:
    raise UserError("--config.workdir: a sweep goes to runs/NAME; use --name=NAME")
  return changed


if __name__ == "__main__":
  command_line.run(main, _DEFAULT_CONFIG, run_fields.DESCRIPTIONS)
