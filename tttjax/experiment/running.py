"""A run from Python: everything but the report, with the rows as its result."""

import dataclasses
import io
import json
import pathlib
import sys
from typing import Any, TextIO

from ml_collections import config_dict

from tttjax import compiling, hosts, interrupts, rows
from tttjax.errors import UserError
from tttjax.experiment import config as run_config
from tttjax.experiment import provenance, samples_file, side_by_side, tensorboard, unit_loop
from tttjax.experiment.device_groups import check_batch, groups_of
from tttjax.experiment.progress import Progress
from tttjax.experiment.run_directory import prepare_workdir
from tttjax.experiment.samples import Samples
from tttjax.experiment.unfinished import remove_rest
from tttjax.experiment.unit_loop import Begun, Done, Started
from tttjax.experiment.work_units import Work
from tttjax.files import user_path
from tttjax.rows import Row


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished run.

  Attributes:
    workdir: where its files are.
    rows: one per prediction (tttjax.rows).
  """

  workdir: pathlib.Path
  rows: list[Row]

  @property
  def failed(self) -> int:
    """Predictions that failed and count as wrong."""
    return sum(row["error"] is not None for row in self.rows)

  def table(self) -> Any:
    """The rows as a pandas DataFrame, nested fields by dotted names.

    Raises:
      UserError: pandas is not installed.
    """
    try:
      import pandas
    except ImportError:
      raise UserError("a table needs the package pandas: pip install pandas") from None
    return pandas.json_normalize(self.rows)


def run(
  config: config_dict.ConfigDict,
  workdir: str | pathlib.Path | None = None,
  retry_failed: bool = False,
  stream: TextIO | None = None,
  grace: float = 0.0,
) -> Run:
  """Checks a config and makes the rows that its work directory does not hold yet.

  Of several processes (tttjax.hosts.initialize) all call it and get all rows; the first one writes.

  Args:
    config: of `tttjax.experiment.default_config`, or a config file's.
    workdir: instead of config.workdir.
    retry_failed: compute the examples again whose rows have an error.
    stream: of the progress; None takes stderr.
    grace: seconds that a program which hears SIGTERM may take to finish the unit of work in hand.

  Raises:
    UserError: names the first field that is wrong, before anything is loaded or written.
    KeyboardInterrupt: says how many rows there are; the same call continues.
  """
  before = compiling.so_far()
  plan = run_config.check(config)
  directory = (
    user_path(plan.config.workdir, "config.workdir")
    if workdir is None
    else user_path(workdir, "workdir")
  )
  if plan.config.tensorboard:
    tensorboard.check()
  groups = groups_of(plan.config.mesh.to_dict())
  check_batch(groups, plan.config.batch_contexts)
  first = {model: Work(plan, model).first_units() for model in plan.models}
  settings = provenance.settings(plan)
  hosts.together(json.dumps(settings, sort_keys=True), "their settings")
  samples = _samples(directory, settings, retry_failed)
  for model, units in first.items():
    for unit in units:
      unit_loop.check_same(samples, model, unit)
  writes = hosts.is_writer()
  board = tensorboard.TensorBoard(directory) if plan.config.tensorboard and writes else None
  stream = (stream or sys.stderr) if writes else io.StringIO()
  if replaced := [name for name in config.models if name not in plan.models]:
    by = ", ".join(plan.models)
    print(f"smoke run: {', '.join(replaced)} not read, {by} in its place", file=stream)
  progress = Progress(plan, samples, stream, at_once=len(groups))

  def kept() -> str:
    rows_kept = f" with {len(samples.rows)} rows in {samples.path}; the same command continues"
    return rows_kept if writes else ""

  try:
    with interrupts.remarking(kept), interrupts.grace(grace):
      for event in side_by_side.run(plan, samples, groups):
        match event:
          case Begun():
            progress.begin(event.model, event.place, event.missing)
          case Started():
            progress.start(event.place, event.strategy, event.compiles)
          case Done():
            for row in event.rows:
              samples.append(row)
            if board:
              board.write(event.rows)
            progress.finish(event.model, event.place, event.strategy, event.seconds)
      hosts.together("", "", name="rows")  # process 0 has those of all
      samples = _complete(samples)
    if writes:
      remove_rest(directory)
  finally:
    progress.close()
    samples.close()
    if board:
      board.close()
  if (programs := compiling.so_far().since(before)).made:
    print(programs, file=stream)
  return Run(directory, list(samples.rows.values()))


def _complete(samples: Samples) -> Samples:
  """All rows, where this process has those that it made itself."""
  every = hosts.from_writer("all-rows", samples.as_bytes() if hosts.is_writer() else None)
  if hosts.is_writer():
    return samples
  return Samples(samples.path, rows.parse(samples.path, every))


def _samples(directory: pathlib.Path, settings: dict[str, Any], retry_failed: bool) -> Samples:
  """The rows that there are; of several processes one has the file open."""
  if not hosts.is_writer():
    path = directory / "samples_*.jsonl"
    return Samples(path, rows.parse(path, hosts.from_writer("rows", None)))
  prepare_workdir(directory, settings)
  samples = samples_file.SamplesFile(directory, retry_failed)
  hosts.from_writer("rows", samples.as_bytes())
  return samples
