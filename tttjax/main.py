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
from tttjax.experiment import running

_WORKDIR = flags.DEFINE_string("workdir", None, "where outputs go, instead of config.workdir")
_RETRY_FAILED = flags.DEFINE_bool(
  "retry_failed", False, "compute the examples again whose rows have an error"
)


def main(config) -> None:
  """Checks the config, makes the missing rows, writes tables, figures and the report."""
  # transformers only tokenizes here; its advice to install PyTorch would puzzle.
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
  _use_compilation_cache()
  run = running.run(config, _WORKDIR.value, _RETRY_FAILED.value)
  report.build([run.workdir], run.workdir)
  if run.failed:
    print(
      f"{run.failed} of {len(run.rows)} predictions failed and count as wrong: see the report;"
      " --retry_failed computes them again",
      file=sys.stderr,
    )


def _use_compilation_cache() -> None:
  """Compiled programs are kept in $TTTJAX_CACHE, and nowhere without that variable."""
  if directory := os.environ.get("TTTJAX_CACHE"):
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(directory) / "xla"))


if __name__ == "__main__":
  command_line.run(main, "configs/quickstart.py", run_config.DESCRIPTIONS)
