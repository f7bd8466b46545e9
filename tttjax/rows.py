"""The schema that what writes rows and what reads them share: one row per prediction."""

import json
import pathlib
from typing import Any

from tttjax.errors import UserError

Row = dict[str, Any]
Key = tuple[str, str, str, int, int, int, int]
_KEY = ("model", "task", "strategy", "seed", "length", "context", "question")


def key_of(row: Row) -> Key:
  """What makes a row unique within a run."""
  return tuple(row[name] for name in _KEY)


def parse(path: pathlib.Path, data: bytes) -> dict[Key, Row]:
  """The rows in `data`, by key and in order; what follows the last line break is left out.

  Args:
    path: where they were read from, named in errors.
    data: lines of JSON.

  Raises:
    UserError: a line that is not a row, or a row that stands there twice.
  """
  rows: dict[Key, Row] = {}
  for number, line in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n")[:-1], 1):
    try:
      row = json.loads(line)
      key = key_of(row)
      float(row["acc"])
    except (ValueError, KeyError, TypeError):
      raise UserError(
        f"{path}: line {number} is not a row of samples; delete that line, and the run computes"
        " it again"
      ) from None
    if key in rows:
      name = ", ".join(f"{field}={value}" for field, value in zip(_KEY, key))
      raise UserError(f"{path}: line {number} repeats a row ({name}); delete that line")
    rows[key] = row
  return rows
