"""Compares ways to spend compute on a long context before answering questions about it.

  python -m tttjax.main [--config=FILE] [--config.ttt.steps=64 ...] [--workdir=DIR]

A config names models, tasks, context lengths, strategies and seeds; every combination is a cell.
Without --config it is the quickstart's. DIR gets config.json, samples_*.jsonl (one row per
prediction), results_*.json, figures/*.png and report.html. The same command again continues an
interrupted run. The table goes to standard output, everything else to standard error.
"""

import sys

from absl import flags

from tttjax import devices, hosts, interrupts, report
from tttjax import flags as command_line
from tttjax.experiment import quickstart, run_fields, running

_WORKDIR = flags.DEFINE_string("workdir", None, "where outputs go, instead of config.workdir")
_RETRY_FAILED = flags.DEFINE_bool(
  "retry_failed", False, "compute the examples again whose rows have an error"
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT where processes meet")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "how many; as the scheduler says")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "which one this is, from 0")
_HOST_TIMEOUT = flags.DEFINE_integer(
  "host_timeout",
  hosts.SECONDS,
  "seconds that a process may be silent before the others end",
  lower_bound=1,
)
_GRACE = flags.DEFINE_integer(
  "grace",
  20,
  "seconds after SIGTERM in which the answers under way may be finished",
  lower_bound=0,
)
_COMPILATION_CACHE = flags.DEFINE_bool(
  "compilation_cache", True, "keep compiled programs in $TTTJAX_CACHE or ~/.cache/tttjax"
)


def main(config) -> int:
  """Makes the missing rows, writes tables, figures and the report; 1 if every example failed."""
  hosts.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _HOST_TIMEOUT.value)
  devices.check()
  devices.use_compilation_cache(_COMPILATION_CACHE.value)
  run = running.run(config, _WORKDIR.value, _RETRY_FAILED.value, grace=_GRACE.value)
  writes = hosts.is_writer()
  hosts.finish()
  if not writes:
    return 0
  with interrupts.remarking(lambda: "; the rows are complete, the same command writes the report"):
    report.build([run.workdir], run.workdir)
  if not run.failed:
    return 0
  every = run.failed == len(run.rows)
  print(
    f"{'all' if every else f'{run.failed} of'} {len(run.rows)} predictions failed and count as"
    " wrong: see the report; --retry_failed computes them again",
    file=sys.stderr,
  )
  return int(every)


if __name__ == "__main__":
  command_line.run(main, quickstart.get_config, run_fields.DESCRIPTIONS)
