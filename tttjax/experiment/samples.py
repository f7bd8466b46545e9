"""The rows of a run in memory, by key."""

import json
import pathlib

from tttjax.experiment.work_units import Place
from tttjax.rows import Key, Row, key_of


def line(row: Row) -> bytes:
  """A row as a line of a samples file."""
  return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


class Samples:
  """The rows of a run, as a process keeps them that does not write.

  Attributes:
    path: the file that they are in.
    rows: by key, those found in the file and those appended since.
  """

  def __init__(self, path: pathlib.Path, rows: dict[Key, Row]):
    self.path, self.rows = path, {}
    self._contexts: dict[tuple[str, Place], str | None] = {}
    for row in rows.values():
      Samples.append(self, row)  # not a subclass's, which writes

  def append(self, row: Row) -> None:
    """Adds a row.

    Raises:
      ValueError: its key exists already.
    """
    key = key_of(row)
    if key in self.rows:
      raise ValueError(f"row {key} exists already")
    self.rows[key] = row
    place = Place(row["task"], row["length"], row["seed"], row["context"])
    self._contexts[row["model"], place] = row["doc"].get("context_sha256")

  def context_sha256(self, model: str, place: Place) -> str | None:
    """Hash of the context that rows of this place were made from; None without such rows."""
    return self._contexts.get((model, place))

  def as_bytes(self) -> bytes:
    """All rows as the lines of a file."""
    return b"".join(map(line, self.rows.values()))

  def close(self) -> None:
    """Ends the writing."""
