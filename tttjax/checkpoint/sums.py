"""Checksums of the files of a saved state: Orbax restores data that changed on disk unseen."""

import hashlib
import os
import pathlib

from tttjax.errors import UserError
from tttjax.files import read_json, write_json

_SUMS = "sha256.json"


def write_sums(directory: pathlib.Path) -> None:
  """Writes the SHA-256 of every file in a directory that is complete, beside them."""
  write_json(directory / _SUMS, {name: _sum(directory / name) for name in _files(directory)})


def check_sums(directory: pathlib.Path) -> None:
  """Compares the files with what `write_sums` wrote.

  Without a file of sums all is taken as it is: states that older versions saved have none, nor has
  one whose program was killed after Orbax had completed it and before its sums were written.

  Raises:
    UserError: names the first file that is not as it was, or that the sums do not list.
  """
  if not os.path.lexists(directory / _SUMS):  # a link to nowhere is no state without sums
    return
  sums = read_json(directory / _SUMS)
  for name, expected in sums.items():
    path = directory / name
    if not path.is_file() or _sum(path) != expected:
      raise UserError(f"{path}: not the file that was saved")
  for name in _files(directory):
    if name not in sums:
      raise UserError(f"{directory / name}: not among the files that {_SUMS} lists")


def _files(directory: pathlib.Path) -> list[str]:
  """Names of all files below the directory but the sums, sorted."""
  files = (path for path in directory.rglob("*") if path.is_file())
  names = (path.relative_to(directory).as_posix() for path in files)
  return sorted(name for name in names if name != _SUMS)


def _sum(path: pathlib.Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
