"""Checks of JSON field by field, which name the first that is not what it should be."""

from collections.abc import Callable, Mapping
import json
from typing import Any

# What is wrong with the value of a field of this name, in words; None where nothing is.
Check = Callable[[str, Any], str | None]

_LARGEST = 10**30  # more than any cost, and what is computed from it is still a float


def must_be(wanted: str, fits: Callable[[Any], bool]) -> Check:
  """A value that `fits`; `wanted` says so in words."""
  return lambda name, value: (
    None if fits(value) else f"field {name!r} must be {wanted}, not {short(value)}"
  )


def one_of(*allowed: str | None) -> Check:
  """One of these values."""
  return must_be(" or ".join(map(json.dumps, allowed)), lambda value: value in allowed)


def maybe(check: Check) -> Check:
  """What passes `check`, or null."""
  return lambda name, value: None if value is None else check(name, value)


def list_of(check: Check, least: int = 0) -> Check:
  """A list of at least so many; a tuple will be one when it is written."""

  def whole(name: str, value: Any) -> str | None:
    if not isinstance(value, (list, tuple)) or len(value) < least:
      some = f" of at least {least}" if least else ""
      return f"field {name!r} must be a list{some}, not {short(value)}"
    wrong = next(filter(None, (check(name, item) for item in value)), None)
    return wrong and f"an item of {wrong}"

  return whole


def values(check: Check) -> Check:
  """An object with such values under any names."""
  return lambda name, value: (
    next(filter(None, (check(f"{name}.{key}", item) for key, item in value.items())), None)
    if isinstance(value, dict)
    else f"field {name!r} must be an object, not {short(value)}"
  )


def fields(needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
  """An object with these fields; others are not looked at. The name of the outermost one is ''."""
  every = {**needed, **(optional or {})}

  def whole(name: str, value: Any) -> str | None:
    if not isinstance(value, dict):
      return f"field {name!r} must be an object, not {short(value)}" if name else "not an object"
    for own, check in every.items():
      if own in value:
        if wrong := check(f"{name}.{own}" if name else own, value[own]):
          return wrong
      elif own in needed:
        return f"{f'field {name!r}' if name else 'it'} has no field {own!r}"
    return None

  return whole


def short(value: Any) -> str:
  """A value in at most 40 characters."""
  text = json.dumps(value, default=str)  # Parquet has bytes and times too
  return text if len(text) <= 40 else text[:37] + "..."


def is_share(value: Any) -> bool:
  return type(value) in (int, float) and 0 <= value <= 1


def is_whole(value: Any, least: int = 0) -> bool:
  return type(value) is int and least <= value <= _LARGEST


def _is_number(value: Any, least: int) -> bool:  # nan is in no range
  return type(value) in (int, float) and least <= value <= _LARGEST


def _text(wanted: str, fits: Callable[[str], bool]) -> Check:
  """Text that `fits` and that a file can hold: half of a pair of surrogates is none."""
  is_text = must_be(wanted, lambda value: isinstance(value, str) and fits(value))

  def whole(name: str, value: Any) -> str | None:
    if wrong := is_text(name, value):
      return wrong
    try:
      value.encode("utf-8")
    except UnicodeEncodeError as error:
      half = short(value[error.start])
      return (
        f"field {name!r} holds {half} at character {error.start + 1}, which is half of a surrogate"
        " pair and no text"
      )
    return None

  return whole


TEXT = _text("text", lambda value: True)
# What a model wrote, whatever it is: it is read to be shown.
ANY_TEXT = must_be("text", lambda value: isinstance(value, str))
NOT_EMPTY = _text("text that is not empty", lambda value: bool(value.strip()))
_ANY = _text("text or a whole number", lambda value: True)
ID = lambda name, value: None if type(value) is int else _ANY(name, value)
FLAG = must_be("true or false", lambda value: isinstance(value, bool))
COUNT = must_be("a whole number from 0 to 1e30", is_whole)
POSITIVE = must_be("a whole number from 1 to 1e30", lambda value: is_whole(value, 1))
# What figures have as an axis, and arrays as indices.
LENGTH = must_be(
  "a whole number from 1 to 2147483647", lambda value: is_whole(value, 1) and value < 1 << 31
)
AMOUNT = must_be("a number from 0 to 1e30", lambda value: _is_number(value, 0))
NUMBER = must_be("a number, at most 1e30", lambda value: _is_number(value, -_LARGEST))
SHARE = must_be("a number from 0 to 1", is_share)
