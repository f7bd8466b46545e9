"""Runs cells on a backend, some at a time; one that fails does not stop the others."""

from collections.abc import Callable, Sequence
import os
import pathlib
import signal
import sys
import time

from launch import state
from launch.backend import Backend
from launch.cells import Cell, labels

Command = Callable[[Cell, pathlib.Path], Sequence[str]]


def command(cell: Cell, workdir: pathlib.Path) -> list[str]:
  """The command line that runs one cell."""
  return [sys.executable, "-m", "tttjax.main", *cell.arguments, f"--workdir={workdir}"]


def compiled_programs(directory: pathlib.Path) -> dict[str, str]:
  """Variables with which a compiled program serves every cell, and the next start of one."""
  if os.environ.get("TTTJAX_CACHE"):
    return {}
  return {"JAX_COMPILATION_CACHE_DIR": str((directory / ".cache").resolve())}


def run(
  cells: Sequence[Cell],
  directory: pathlib.Path,
  backend: Backend,
  jobs: int,
  make_command: Command = command,
  poll_seconds: float = 0.2,
  report_seconds: float = 20.0,
) -> None:
  """Runs `cells`, at most `jobs` at a time; how each ended is recorded in its log.

  Prints the log's path of every cell that starts, and from time to time how many rows it has.

  Raises:
    KeyboardInterrupt: Ctrl-C or SIGTERM, after the running cells have been stopped.
    Exception: of make_command or the backend, likewise.
  """
  cache = compiled_programs(directory)
  waiting, running, interrupts = list(cells), {}, []
  names, said = labels(cells), time.monotonic()
  # Not by exception: that could strike between a process's start and its entry in `running`.
  handler = lambda number, frame: interrupts.append(number)
  before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
  try:
    while (waiting or running) and not interrupts:
      if waiting and len(running) < jobs:
        cell = waiting.pop(0)
        number, log = len(cells) - len(waiting), state.log_file(directory, cell)
        print(f"[{number}/{len(cells)}] {names[cell.slug]}\n    log: {log}", flush=True)
        line = make_command(cell, state.workdir(directory, cell))
        handle = backend.submit(line, state.log_file(directory, cell), cache)
        running[cell.slug] = cell, handle, time.monotonic()
        continue
      time.sleep(poll_seconds)
      for cell, handle, begin in list(running.values()):
        code = backend.poll(handle)
        if code is None:
          continue
        del running[cell.slug]
        how = state.record_end(directory, cell, code)
        outcome = f"failed with {how}" if code else "done"
        print(f"{names[cell.slug]}: {outcome} after {time.monotonic() - begin:.0f} s", flush=True)
      if running and time.monotonic() - said >= report_seconds:
        said = time.monotonic()
        for cell, _, begin in running.values():
          rows = state.read(directory, cell, backend).rows
          seconds = f"{said - begin:.0f} s"
          print(f"{names[cell.slug]}: {rows} of {cell.rows} rows after {seconds}", flush=True)
  finally:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends the wait
    if running:
      print(f"stopping {len(running)} running cells, which save their rows", file=sys.stderr)
      backend.cancel([handle for _, handle, _ in running.values()])
      for cell, handle, _ in list(running.values()):
        if backend.poll(handle) == 0:  # it came to its end all the same
          del running[cell.slug]
          state.record_end(directory, cell, 0)
    for number, old in before.items():
      signal.signal(number, old)
  if interrupts:
    raise KeyboardInterrupt(
      f"interrupted with {len(running) + len(waiting)} of {len(cells)} cells to finish;"
      " the same command continues"
    )
