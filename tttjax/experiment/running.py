"""A run from Python: everything but the report, with the rows as its result."""

import dataclasses
import pathlib
import sys
from typing import Any, TextIO

from ml_collections import config_dict

from tttjax import interrupts
from tttjax.errors import UserError
from tttjax.experiment import config as run_config
from tttjax.experiment import provenance, samples_file, tensorboard, unit_loop
from tttjax.experiment.progress import Progress
from tttjax.experiment.run_directory import prepare_workdir
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
) -> Run:
  """Checks a config and makes the rows that its work directory does not hold yet.

  Args:
    config: of `tttjax.experiment.default_config`, or a config file's.
    workdir: instead of config.workdir.
    retry_failed: compute the examples again whose rows have an error.
    stream: of the progress; None takes stderr.

  Raises:
    UserError: names the first field that is wrong, before anything is loaded or written.
    KeyboardInterrupt: says how many rows there are; the same call continues.
  """
  plan = run_config.check(config)
  directory = (
    user_path(plan.config.workdir, "config.workdir")
    if workdir is None
    else user_path(workdir, "workdir")
  )
  if plan.config.tensorboard:
    tensorboard.check()
  first = {model: Work(plan, model).first_units() for model in plan.models}
  prepare_workdir(directory, provenance.settings(plan))
  samples = samples_file.Samples(directory, retry_failed)
  for model, units in first.items():
    for unit in units:
      unit_loop.check_same(samples, model, unit)
  board = tensorboard.TensorBoard(directory) if plan.config.tensorboard else None
  progress = Progress(plan, samples, stream or sys.stderr)
  finished = False
  kept = lambda: f" with {len(samples.rows)} rows in {samples.path}; the same command continues"
  try:
    with interrupts.remarking(kept):
      unit_loop.run(plan, samples, progress, board.write if board else lambda rows: None)
    finished = True
  finally:
    progress.close(finished)
    samples.close()
    if board:
      board.close()
  return Run(directory, list(samples.rows.values()))
