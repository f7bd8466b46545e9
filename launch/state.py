"""What a sweep's directory records, and how far each of its cells has come.

runs/NAME/sweep.json    the configuration all cells share, and the cells
runs/NAME/CELL/         work directory of tttjax.main
runs/NAME/logs/CELL.log what the cell's processes printed, and how they ended
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import signal
from typing import Any

from launch.backend import Watched
from launch.cells import Cell
from tttjax.errors import UserError
from tttjax.files import read_json, write_json

DONE, PARTIAL, FAILED = "done", "partial", "failed"
NOT_STARTED = "not started"
ENDED = "launcher: ended with "
_SUCCESS = "exit code 0"
_TAIL_BYTES = 1 << 14


@dataclasses.dataclass(frozen=True)
class State:
  """How far a cell has come.

  Attributes:
    status: one of these four, or what a place says of a job that is under way.
    rows: rows of samples on disk.
  """

  status: str
  rows: int


def workdir(directory: pathlib.Path, cell: Cell) -> pathlib.Path:
  return directory / cell.slug


def log_file(directory: pathlib.Path, cell: Cell) -> pathlib.Path:
  return directory / "logs" / f"{cell.slug}.log"


def read(directory: pathlib.Path, cell: Cell, place: Watched) -> State:
  """The state of a cell, from its files and from the place where it runs."""
  samples = list(workdir(directory, cell).glob("samples_*.jsonl"))
  results = list(workdir(directory, cell).glob("results_*.json"))
  rows = sum(path.read_bytes().count(b"\n") for path in samples)
  log = log_file(directory, cell)
  last = "".join(_last_lines(log)[-1:])
  ended = last.removeprefix(ENDED) if last.startswith(ENDED) else None
  # Results come last, so older ones do not belong to the samples beside them. New ones may be
  # those of a report that somebody made half-way; and a complete run may have less than cell.rows.
  fresh = bool(samples and results) and _newest(results) >= _newest(samples)
  if under_way := place.under_way(log):
    status = under_way
  elif fresh and (rows >= cell.rows or ended == _SUCCESS):
    status = DONE
  elif ended not in (None, _SUCCESS):
    status = FAILED
  else:
    status = PARTIAL if rows else NOT_STARTED
  return State(status, rows)


def record_end(directory: pathlib.Path, cell: Cell, code: int) -> str:
  """Writes how a cell's process ended into its log, and returns it; see Backend.poll for `code`."""
  how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
  with open(log_file(directory, cell), "a", encoding="utf-8") as file:
    file.write(f"\n{ENDED}{how}\n")
  return how


def last_words(directory: pathlib.Path, cell: Cell) -> str:
  """The last line that the cell's process printed."""
  lines = [line for line in _last_lines(log_file(directory, cell)) if not line.startswith(ENDED)]
  return lines[-1] if lines else "(empty log)"


def check(directory: pathlib.Path, settings: Mapping[str, Any]) -> None:
  """Checks that the cells in `directory`, if any, share these settings (dotted field: value).

  Raises:
    UserError: they ran with another configuration (says what differs), or something that is no
      file has the name of one that is read or written here: of a pipe that might wait forever.
  """
  found = [path for name in ("logs/*.log", "*/samples_*.jsonl") for path in directory.glob(name)]
  for path in (directory / "sweep.json", directory / ".launcher", *found):
    if os.path.lexists(path) and not path.is_file():
      raise UserError(f"{path}: not a regular file; remove it, or use another --name")
  manifest = read_manifest(directory)
  if manifest is None:
    return
  old, new, absent = manifest["settings"], _as_json(settings), "(absent)"
  differences = [
    f"{name}: {old.get(name, absent)} there, {new.get(name, absent)} now"
    for name in {**old, **new}
    if old.get(name, absent) != new.get(name, absent)
  ]
  if differences:
    raise UserError(
      f"{directory} is a sweep over another configuration ({'; '.join(differences)}); use"
      " another --name, or delete that one"
    )


def write_manifest(
  directory: pathlib.Path,
  config_file: str,
  settings: Mapping[str, Any],
  sweep_file: str,
  cells: Sequence[Cell],
) -> None:
  """Writes sweep.json. Cells that are no longer in the sweep stay in the record."""
  old = read_manifest(directory) or {"cells": {}}
  write_json(
    directory / "sweep.json",
    {
      "config": config_file,
      "sweep": sweep_file,
      "settings": _as_json(settings),
      "cells": {**old["cells"], **{cell.slug: cell.overrides for cell in cells}},
    },
  )


def read_manifest(directory: pathlib.Path) -> dict[str, Any] | None:
  """sweep.json, or None where there is none.

  Raises:
    UserError: it is unreadable.
  """
  path = directory / "sweep.json"
  if not os.path.lexists(path):
    return None
  value = read_json(path)
  cells = value.get("cells")
  whole = isinstance(value.get("settings"), dict) and isinstance(cells, dict)
  if not whole or not all(isinstance(overrides, dict) for overrides in cells.values()):
    raise UserError(f"{path} is not a record of a sweep; use another --name")
  return value


@contextlib.contextmanager
def only_launcher(directory: pathlib.Path) -> Iterator[None]:
  """Keeps a second launcher out of the directory while the block runs.

  Raises:
    UserError: there is one already, or the directory cannot be made.
  """
  try:
    directory.mkdir(parents=True, exist_ok=True)
    file = open(directory / ".launcher", "w")
  except OSError as error:
    raise UserError(f"{directory}: {error.strerror}; use another --name") from None
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(
        f"{directory}: another launcher is at work here; --status shows how far it is"
      ) from None
    yield


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
  """As it comes back from a JSON file: tuples become lists."""
  return json.loads(json.dumps(value))


def _newest(paths: Sequence[pathlib.Path]) -> int:
  return max(path.stat().st_mtime_ns for path in paths)


def _last_lines(log: pathlib.Path) -> list[str]:
  """The non-empty lines at the end of a log; a progress bar's last state counts as one."""
  try:
    with open(log, "rb") as file:
      file.seek(0, 2)
      file.seek(max(file.tell() - _TAIL_BYTES, 0))
      text = file.read().decode("utf-8", errors="replace")
  except FileNotFoundError:
    return []
  return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
