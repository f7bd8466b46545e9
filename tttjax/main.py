"""Compares ways to spend compute on a long context before answering questions about it.

  python -m tttjax.main --config=configs/quickstart.py [--config.ttt.steps=64 ...] [--workdir=DIR]

A config names models, tasks, context lengths, strategies and seeds; every combination is a cell.
DIR gets config.json, samples_*.jsonl (one row per prediction), results_*.json,
figures/*.png and report.html. The same command again continues an interrupted run.
"""

import os
import pathlib
import sys

from absl import flags
import jax

from tttjax import flags as command_line
from tttjax import report
from tttjax.experiment import config as run_config
from tttjax.experiment import provenance, records, runner, tensorboard
from tttjax.experiment import work as run_work
from tttjax.experiment.progress import Progress

_WORKDIR = flags.DEFINE_string("workdir", None, "where outputs go, instead of config.workdir")
_RETRY_FAILED = flags.DEFINE_bool(
  "retry_failed", False, "compute the examples again whose rows have an error"
)


def main(config) -> None:
  """Checks the config, makes the missing rows, writes tables, figures and the report."""
  # transformers only tokenizes here; its advice to install PyTorch would puzzle.
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
  plan = run_config.check(config)
  if plan.config.tensorboard:
    tensorboard.check()
  work = run_work.prepare(plan)
  _use_compilation_cache()
  workdir = pathlib.Path(_WORKDIR.value or plan.config.workdir)
  records.prepare_workdir(workdir, provenance.settings(plan, work))
  samples = records.Samples(workdir, _RETRY_FAILED.value)
  board = tensorboard.TensorBoard(workdir) if plan.config.tensorboard else None
  progress = Progress(work, len(plan.strategies), sys.stderr)
  try:
    runner.run(plan, work, samples, progress, board.write if board else lambda rows: None)
  except KeyboardInterrupt:
    raise KeyboardInterrupt(
      f"interrupted with {len(samples.rows)} rows in {samples.path}; the same command continues"
    ) from None
  finally:
    progress.close()
    samples.close()
    if board:
      board.close()
  report.build([workdir], workdir)
  failed = sum(row["error"] is not None for row in samples.rows.values())
  if failed:
    print(
      f"{failed} of {len(samples.rows)} predictions failed and count as wrong: see the report;"
      " --retry_failed computes them again",
      file=sys.stderr,
    )


def _use_compilation_cache() -> None:
  """Compiled programs are kept in $TTTJAX_CACHE, and nowhere without that variable."""
  if directory := os.environ.get("TTTJAX_CACHE"):
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(directory) / "xla"))


if __name__ == "__main__":
  command_line.run(main, "configs/quickstart.py", run_config.DESCRIPTIONS)
