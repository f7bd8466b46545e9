"""A work directory and its config.json: begun, continued, or grown."""

import json
import pathlib
from typing import Any

from tttjax import run_settings
from tttjax.errors import UserError
from tttjax.experiment import growth
from tttjax.files import write_json


def prepare_workdir(directory: pathlib.Path, settings: dict[str, Any]) -> None:
  """Creates `directory` with config.json, or lets the run that is there grow to `settings`.

  Args:
    directory: the run's directory.
    settings: dotted field to JSON value.

  Raises:
    UserError: it belongs to another configuration (says which fields differ) or is unusable.
  """
  path = directory / "config.json"
  try:
    directory.mkdir(parents=True, exist_ok=True)
    if not path.exists():
      write_json(path, settings)
      return
  except OSError as error:
    raise UserError(f"--workdir={directory}: {error.strerror}; choose another directory") from None
  old = run_settings.read(path)
  merged, problems = growth.grown(old, json.loads(json.dumps(settings)))
  if problems:
    raise UserError(
      f"--workdir={directory} holds a run of another configuration ({'; '.join(problems)});"
      " use another --workdir, or delete that one"
    )
  if merged != old:
    write_json(path, merged)
