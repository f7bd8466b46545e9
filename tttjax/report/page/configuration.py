"""The runs' configurations, side by side where they differ, and links to the files beside them."""

from collections.abc import Sequence
import dataclasses
import math
import os
import pathlib
from typing import Any
import urllib.parse

from tttjax.report.page.markup import Column, Table, Value
from tttjax.report.runs import Run


@dataclasses.dataclass(frozen=True)
class Configuration:
  """Fields of config.json.

  Attributes:
    different: a line per run and a column per field that differs; None where none does.
    common: the fields that all runs share, a line each.
  """

  different: Table | None
  common: Table


def fields(runs: Sequence[Run]) -> Configuration:
  """All fields of one run; of several, those that differ apart."""
  names = list(dict.fromkeys(name for run in runs for name in run.config))
  shown = lambda run, name: _text(run.config[name]) if name in run.config else "(absent)"
  same = [name for name in names if len({shown(run, name) for run in runs}) == 1]
  different = [name for name in names if name not in same]
  code = lambda text: Value(text, code=True)
  common = Table(
    [Column("field", text=True), Column("value", text=True)],
    [[code(name), code(shown(runs[0], name))] for name in same],
  )
  if not different:
    return Configuration(None, common)
  columns = [Column("run", text=True, main=True), *(Column(n, text=True) for n in different)]
  rows = [[Value(run.label), *(code(shown(run, name)) for name in different)] for run in runs]
  return Configuration(Table(columns, rows), common)


def _text(value: Any) -> str:
  if isinstance(value, (list, tuple)):
    return ", ".join(map(_text, value))
  if isinstance(value, float) and math.isfinite(value):
    return f"{value:g}"
  return str(value)


def files(run: Run, page: pathlib.Path) -> list[tuple[str, str]]:
  """(name, link) of the run's own files that exist."""
  names = (f"samples_{run.stamp}.jsonl", f"samples_{run.stamp}.jsonl.gz", "config.json")
  paths = (run.directory / name for name in names)
  return [(path.name, link(path, page)) for path in paths if path.is_file()]


def link(path: pathlib.Path, page: pathlib.Path) -> str:
  """The address of a file relative to the page; no name of a directory can be a scheme in it."""
  relative = pathlib.PurePath(os.path.relpath(path, page.parent))
  return urllib.parse.quote(os.fsencode(relative.as_posix()))
