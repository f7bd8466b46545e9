"""One row per prediction, in a JSONL file that a run appends to and resumes from."""

import datetime
import fcntl
import json
import pathlib

from absl import logging

from tttjax.errors import UserError
from tttjax.experiment.work_units import Place
from tttjax.files import naming, replacing
from tttjax.rows import Key, Row, key_of, parse


def _line(row: Row) -> bytes:
  return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


class Samples:
  """The rows of a run, in memory and in DIR/samples_<time>.jsonl.

  Attributes:
    rows: by key, those found in the file and those appended since.
  """

  def __init__(self, directory: pathlib.Path, retry_failed: bool = False):
    """Opens or creates the file, for this process alone.

    Args:
      directory: the run's.
      retry_failed: drop the rows of examples that failed, so that they are computed again.

    Raises:
      UserError: another process writes it, or a row cannot be read.
    """
    if packed := sorted(directory.glob("samples_*.jsonl.gz")):
      raise UserError(
        f"{packed[0]}: a compressed run is not continued; gunzip it, or use another --workdir"
      )
    found = sorted(directory.glob("samples_*.jsonl"))
    if len(found) > 1:
      raise UserError(f"{directory} holds {len(found)} samples files; keep one")
    now = datetime.datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    self.path = found[0] if found else directory / f"samples_{now}.jsonl"
    self._open()
    self.rows = self._read()
    self._contexts: dict[tuple[str, Place], str | None] = {}
    for row in self.rows.values():
      self._remember(row)
    failed = [key for key, row in self.rows.items() if row.get("error")] if retry_failed else []
    if failed:
      for key in failed:
        del self.rows[key]
      with replacing(self.path) as temporary:
        temporary.write_bytes(b"".join(map(_line, self.rows.values())))
      self._file.close()
      self._open()  # the new file

  def _open(self) -> None:
    if self.path.exists() and not self.path.is_file():
      raise UserError(f"{self.path}: not a regular file; remove it, or use another --workdir")
    self._file = open(self.path, "a+b")
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      self._file.close()
      raise UserError(
        f"{self.path}: another run is writing here; wait for it or use another --workdir"
      ) from None

  def _read(self) -> dict[Key, Row]:
    """The rows that are there; cuts off what was half written."""
    self._file.seek(0)
    data = self._file.read()
    rows = parse(self.path, data)
    if any(row["doc"]["questions"] is None for row in rows.values()):
      raise UserError(
        f"{self.path}: rows of version 0.1, without doc.questions, are not continued; use another"
        " --workdir"
      )
    end = data.rfind(b"\n") + 1
    if end < len(data):
      self._file.truncate(end)
      logging.warning(
        "%s: cut off a half-written last line (%d bytes); it is computed again",
        self.path,
        len(data) - end,
      )
    return rows

  def append(self, row: Row) -> None:
    """Writes one row through to the file.

    Raises:
      ValueError: its key exists already.
    """
    key = key_of(row)
    if key in self.rows:
      raise ValueError(f"row {key} exists already")
    with naming(self.path):
      self._file.write(_line(row))
      self._file.flush()
    self.rows[key] = row
    self._remember(row)

  def _remember(self, row: Row) -> None:
    place = Place(row["task"], row["length"], row["seed"], row["context"])
    self._contexts[row["model"], place] = row["doc"].get("context_sha256")

  def context_sha256(self, model: str, place: Place) -> str | None:
    """Hash of the context that rows of this place were made from; None without such rows."""
    return self._contexts.get((model, place))

  def close(self) -> None:
    with naming(self.path):
      self._file.close()
