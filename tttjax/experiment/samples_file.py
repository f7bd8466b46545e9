"""One row per prediction, in a JSONL file that a run appends to and resumes from."""

import datetime
import fcntl
import pathlib

from absl import logging

from tttjax.errors import UserError
from tttjax.experiment.samples import Samples, line
from tttjax.files import naming, replacing
from tttjax.rows import Key, Row, key_of, parse


class SamplesFile(Samples):
  """The rows of a run, in memory and in DIR/samples_<time>.jsonl."""

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
    rows = self._read()
    failed = [key for key, row in rows.items() if row.get("error")] if retry_failed else []
    for key in failed:
      del rows[key]
    super().__init__(self.path, rows)
    if failed:
      with replacing(self.path) as temporary:
        temporary.write_bytes(self.as_bytes())
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
    if (key := key_of(row)) in self.rows:
      raise ValueError(f"row {key} exists already")
    with naming(self.path):
      self._file.write(line(row))
      self._file.flush()
    super().append(row)

  def close(self) -> None:
    with naming(self.path):
      self._file.close()
