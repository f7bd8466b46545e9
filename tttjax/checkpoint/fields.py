"""Typed reading of JSON objects, with errors that name the file and the field."""

from collections.abc import Mapping
import json
import pathlib
import reprlib
from typing import Any

import numpy as np

from tttjax.errors import UserError

_NUMBER = (int, float)
# Sizes, positions and ids are int32 on the devices, other numbers float32.
MOST = np.iinfo(np.int32).max
_LOWEST, _HIGHEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
# A file may hold 4,000 digits, or a list of lists of lists.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


def shown(value: Any) -> str:
  """`value` in an error, shortened."""
  return _SHORT.repr(value)


class Fields:
  """Typed access to one JSON object; every failure names the file and the field.

  Where the values come from a file that has other names for them, `keys` gives these by field.
  """

  def __init__(
    self,
    path: pathlib.Path,
    values: dict[str, Any],
    prefix: str = "",
    keys: Mapping[str, str] | None = None,
  ):
    self.path, self.values, self.prefix, self.keys = path, values, prefix, keys

  def error(self, name: str, problem: str) -> UserError:
    name = self.prefix + name
    named = f"field {name!r}" if self.keys is None else f"key {self.keys.get(name, name)!r}"
    return UserError(f"{self.path}: {named} {problem}")

  def get(self, name: str, types, kind: str, default: Any) -> Any:
    """The value of `name`, or `default` where it is absent or null."""
    value = self.values.get(name)
    if value is None:
      return default
    if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
      raise self.error(name, f"is {shown(value)} but must be {kind}; correct it")
    return value

  def required(self, name: str) -> None:
    if self.values.get(name) is None:
      original = "the checkpoint's original config.json" if self.keys is None else "the file"
      raise self.error(name, f"is missing; restore {original}")

  def size(self, name: str, default: int | None = None) -> int:
    if default is None:
      self.required(name)
    kind = "a positive integer below 2^31"
    value = self.get(name, int, kind, default)
    if not 1 <= value <= MOST:
      raise self.error(name, f"is {shown(value)} but must be {kind}; correct it")
    return value

  def positive(self, name: str, default: float | None = None) -> float | None:
    """A number that is positive and finite in float32."""
    kind = "a positive number within float32's range"
    value = self.get(name, _NUMBER, kind, default)
    if value is not None and not _LOWEST <= value <= _HIGHEST:
      raise self.error(name, f"is {shown(value)} but must be {kind}; correct it")
    return None if value is None else float(value)

  def positive_or(self, name: str, default: float | None) -> float | None:
    """As `positive`, but 0 counts as absent too."""
    zero = self.values.get(name) == 0 and not isinstance(self.values[name], bool)
    return default if zero else self.positive(name, default)

  def flag(self, name: str, default: bool) -> bool:
    return self.get(name, bool, "true or false", default)

  def table(self, name: str) -> "Fields":
    values = self.get(name, dict, "an object", {})
    return Fields(self.path, values, f"{self.prefix}{name}.", self.keys)


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The JSON object in `path`; raises UserError if it is absent, unreadable or not an object."""
  try:
    values = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise UserError(
      f"{path}: no such file; give the directory of a Hugging Face checkpoint "
      "that has config.json and model.safetensors"
    ) from None
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"{path}: cannot be read as text ({error}); fetch the file again") from None
  except json.JSONDecodeError as error:
    raise UserError(
      f"{path}: invalid JSON (line {error.lineno}: {error.msg}); fetch the file again"
    ) from None
  except (RecursionError, ValueError) as error:  # Nested too deeply, or an endless number.
    raise UserError(f"{path}: invalid JSON ({error}); fetch the file again") from None
  if not isinstance(values, dict):
    raise UserError(
      f"{path}: holds a JSON {type(values).__name__} but must hold an object; fetch it again"
    )
  return values
