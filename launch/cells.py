"""From overrides to cells: names, command lines, and the check of every config."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import importlib.util
import json
import pathlib
import re
from typing import Any

import ml_collections

from launch.algebra import Sweep
from tttjax import flags
from tttjax.errors import UserError
from tttjax.experiment import config as run_config
from tttjax.experiment import run_size
from tttjax.files import user_path

_REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
# Names of directories; every other field goes by its whole dotted name.
_SHORT = {
  "ttt.steps": "steps",
  "ttt.span": "span",
  "ttt.learning_rate": "lr",
  "thinking.budget": "thinking",
}
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+-]+")
# A value that contains none of what joins values ('+') and fields ('__').
_PLAIN = re.compile(r"(?!.*__)[A-Za-z0-9.-][A-Za-z0-9._-]*(?<!_)")
_LONGEST_SLUG = 100


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run of a sweep.

  Attributes:
    slug: the name of its directory, a function of `overrides` alone.
    overrides: dotted field to value, as the config holds it.
    arguments: command line of tttjax.main but for --workdir.
    rows: predictions of the complete run, at most.
    flops: estimated model FLOPs of the complete run, if every budget is used up.
  """

  slug: str
  overrides: dict[str, Any]
  arguments: tuple[str, ...]
  rows: int
  flops: int


def load_sweep(path: str) -> Sweep:
  """Runs `get_sweep()` of a file; relative paths are also tried from the repository's root.

  Raises:
    UserError: no such file, no get_sweep, the file fails, or the result is no list of dicts.
  """
  given = user_path(path, "--sweep")
  file = next((f for f in (given, _REPOSITORY / given) if f.is_file()), None)
  if file is None or file.suffix != ".py":
    raise UserError(f"--sweep={path}: no such Python file; see configs/sweeps")
  spec = importlib.util.spec_from_file_location(f"_sweep_{file.stem}", file)
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    if not hasattr(module, "get_sweep"):
      raise UserError("the file defines no function get_sweep()")
    result = module.get_sweep()
  except UserError as error:
    raise UserError(f"--sweep={path}: {error}") from None
  except Exception as error:  # the user's own file: any failure is a mistake in it
    raise UserError(f"--sweep={path}: {type(error).__name__}: {error}") from error
  if not isinstance(result, list) or not all(isinstance(cell, dict) for cell in result):
    raise UserError(f"--sweep={path}: get_sweep() must return a list of dicts")
  if not result:
    raise UserError(f"--sweep={path}: get_sweep() returned no cells")
  for name in (name for cell in result for name in cell):
    if not isinstance(name, str):
      raise UserError(f"--sweep={path}: {name!r} is no field; give its dotted name as a text")
  try:
    repr(result)
  except (ValueError, RecursionError) as error:  # a number of 5,000 digits, lists without end
    raise UserError(f"--sweep={path}: a value cannot be written ({error})") from None
  return result


def plan(config_file: str, base: Mapping[str, Any], sweep: Sweep) -> list[Cell]:
  """Builds and checks the config of every cell as its process will, from a command line.

  Args:
    config_file: of all cells.
    base: overrides of all cells, given on the launcher's command line.
    sweep: overrides of each cell.

  Raises:
    UserError: names the first cell that is wrong, or two that are the same.
  """
  cells, seen = [], {}
  for overrides in sweep:
    try:
      cell, settings = _plan_cell(config_file, base, overrides)
    except UserError as error:
      shown = ", ".join(f"{name}={value!r}" for name, value in overrides.items())
      raise UserError(f"cell {{{shown}}}: {error}") from None
    twin = seen.setdefault(json.dumps(settings, sort_keys=True), cell.slug)
    if twin is not cell.slug:
      raise UserError(f"cells {twin} and {cell.slug} are the same configuration; remove one")
    cells.append(cell)
  return cells


def _plan_cell(
  config_file: str, base: Mapping[str, Any], overrides: Mapping[str, Any]
) -> tuple[Cell, dict[str, Any]]:
  if "workdir" in overrides:
    raise UserError("workdir: the launcher sets it; remove it from the sweep")
  config = flags.load_config(config_file)
  arguments = [f"--config={config_file}"]
  for name, value in {**base, **overrides}.items():
    arguments.append(f"--config.{name}={_set(config, name, value)}")
  settings = dict(flags.fields(config))
  checked = run_config.check(config)
  values = {name: settings[name] for name in overrides}
  size = run_size.estimate(checked)
  cell = Cell(slug(values), values, tuple(arguments), size.rows, size.flops)
  del settings["workdir"]
  return cell, settings


def _set(config: ml_collections.ConfigDict, name: str, value: Any) -> str:
  """Sets a field through the text of a command line; returns that text."""
  text = as_text(value)
  flags.override(config, name, text)
  arrived = dict(flags.fields(config))[name]
  wanted = tuple(value) if isinstance(value, list) else value
  if arrived != wanted:
    raise UserError(
      f"--config.{name}={text}: the command line makes {arrived!r} of {wanted!r}; give a value"
      " of the type of the field"
    )
  return text


def as_text(value: Any) -> str:
  """A config value as the text of `--config.field=text`; lists are joined with commas.

  Raises:
    UserError: not a bool, int, float, str without NUL, or a tuple or list of these.
  """
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, (tuple, list)):
    return ",".join(flags.list_item(as_text(item)) for item in value)
  if isinstance(value, str) and "\0" not in value:  # which ends an argument of a process
    return value
  if isinstance(value, (int, float)):
    # Through the built-in type: the repr of NumPy's float64, a float, is no number.
    return repr(float(value) if isinstance(value, float) else int(value))
  raise UserError(f"{value!r}: give a number, a text, true or false, or a tuple of these")


def labels(cells: Sequence[Cell]) -> dict[str, str]:
  """What each cell, by its slug, differs from the others in: 'ttt.steps=8, seeds=1'."""
  names = list(dict.fromkeys(name for cell in cells for name in cell.overrides))
  absent = object()
  differs = [
    name for name in names if len({repr(c.overrides.get(name, absent)) for c in cells}) > 1
  ]

  def label(cell: Cell) -> str:
    own = {name: cell.overrides[name] for name in differs if name in cell.overrides}
    return ", ".join(f"{name}={_shown(value)}" for name, value in own.items()) or "base"

  named = {cell.slug: label(cell) for cell in cells}
  unique = len(set(named.values())) == len(named)
  return named if unique else {slug: slug for slug in named}


def _shown(value: Any) -> str:
  return " + ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def slug(overrides: Mapping[str, Any]) -> str:
  """The name of a cell's directory, e.g. 'strategies=qttt+qttt_other_context__steps=8'.

  The order of the overrides does not count. Ends in a hash where the name alone would
  not tell two cells apart: characters were replaced, or it was too long.
  """
  parts, plain = [], True
  for name in sorted(overrides):
    value = overrides[name]
    items = [as_text(item) for item in (value if isinstance(value, (tuple, list)) else [value])]
    safe = [x if _PLAIN.fullmatch(x) else _UNSAFE.sub("-", x).strip("-") for x in items]
    parts.append(f"{_SHORT.get(name, name)}={'+'.join(safe)}")
    plain = plain and all(map(_PLAIN.fullmatch, items))
  full = "__".join(parts) or "base"
  if plain and len(full) <= _LONGEST_SLUG:
    return full
  digest = hashlib.sha256(json.dumps(dict(overrides), sort_keys=True).encode()).hexdigest()[:8]
  return f"{full[: _LONGEST_SLUG - 9]}-{digest}"
