"""config.json of a work directory: what a run writes, and what it and the report read again."""

import pathlib
from typing import Any

from tttjax.errors import UserError
from tttjax.files import read_json
from tttjax.json_fields import COUNT, FLAG, LENGTH, POSITIVE, TEXT, fields, list_of, maybe, one_of

# All may be left out: a report compares runs of any version by the fields that they have.
_FIELDS = fields(
  {},
  {
    "models": list_of(TEXT),
    "tasks": list_of(TEXT),
    "strategies": list_of(TEXT),
    "lengths": list_of(LENGTH),
    "contexts": list_of(POSITIVE, 1),
    "seeds": list_of(COUNT),
    "questions": POSITIVE,
    "unit": one_of("tokens", "native"),
    "smoke": FLAG,
    "git_hash": maybe(TEXT),
    "grown": list_of(fields({})),
  },
)


def read(path: pathlib.Path) -> dict[str, Any]:
  """Dotted field to JSON value.

  Raises:
    UserError: it cannot be read, or a field is not what a run writes.
  """
  settings = read_json(path)
  if wrong := _FIELDS("", settings):
    raise UserError(f"{path}: {wrong}; put back what the run wrote")
  return settings
