"""Reads finished or running work directories: the rows and the configuration, changing nothing."""

import dataclasses
import gzip
import pathlib
from typing import Any
import zlib

from tttjax import run_settings
from tttjax.errors import UserError
from tttjax.files import read_regular
from tttjax.rows import Row, parse


@dataclasses.dataclass(frozen=True)
class Run:
  """One work directory.

  Attributes:
    label: how tables and figures call it; '' where it is the only one.
    directory: where it was read from.
    config: dotted field to JSON value, of config.json.
    rows: one per prediction that is scored, in the order of the file.
    unscored: the others, whose references are not public.
    stamp: the time in the name of the samples file, which names the results too.
  """

  label: str
  directory: pathlib.Path
  config: dict[str, Any]
  rows: list[Row]
  stamp: str
  unscored: tuple[Row, ...] = ()

  @property
  def git_hash(self) -> str | None:
    """Commit of the source tree when the run was begun; None outside of one."""
    return self.config.get("git_hash")


def read_run(directory: pathlib.Path) -> Run:
  """Reads a work directory; it has no label yet.

  Raises:
    UserError: it is not one, or a file in it is broken.
  """
  rows = read_rows(directory)
  return Run(
    "",
    directory,
    run_settings.read(directory / "config.json"),
    [row for row in rows if row["metrics"]],
    _file(directory).name.partition(".")[0].rpartition("_")[2],
    tuple(row for row in rows if not row["metrics"]),
  )


def read_rows(directory: pathlib.Path) -> list[Row]:
  """The rows of a work directory's samples file, which may be compressed (.jsonl.gz).

  A last line without its line break is still being written, or was cut by a kill; it is left out.

  Raises:
    UserError: no samples file, a line that is not a row, or a row that stands there twice.
  """
  path = _file(directory)
  data = read_regular(path)
  if path.suffix == ".gz":
    try:
      data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
      raise UserError(f"{path}: cannot be decompressed ({error}); restore it") from None
  rows = parse(path, data)
  if not rows:
    raise UserError(f"{directory}: its samples file has no rows yet; let the run make some")
  return list(rows.values())


def _file(directory: pathlib.Path) -> pathlib.Path:
  if not directory.is_dir():
    raise UserError(f"{directory}: no such directory; give the work directory of a run")
  files = sorted([*directory.glob("samples_*.jsonl"), *directory.glob("samples_*.jsonl.gz")])
  if not files:
    raise UserError(
      f"{directory}: no samples_*.jsonl in it; give the work directory of a run (its --workdir)"
    )
  if len(files) > 1:
    raise UserError(f"{directory} holds {len(files)} samples files; keep one")
  return files[0]
