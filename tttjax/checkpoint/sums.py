"""Checksums of the files of a saved state: Orbax restores data that changed on disk unseen."""

import hashlib
import pathlib

from tttjax.errors import UserError
from tttjax.files import read_json, write_json

_SUMS = "sha256.json"


def write_sums(directory: pathlib.Path) -> None:
  """Writes the SHA-256 of every file in a directory that is complete, beside them."""
  files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != _SUMS)
  sums = {path.relative_to(directory).as_posix(): _sum(path) for path in files}
  write_json(directory / _SUMS, sums)


def check_sums(directory: pathlib.Path) -> None:
  """Compares the files with what `write_sums` wrote; where it wrote nothing, all is taken.

  Raises:
    UserError: names the first file that is not as it was.
  """
  if not (directory / _SUMS).exists():
    return
  for name, expected in read_json(directory / _SUMS).items():
    path = directory / name
    if not path.is_file() or _sum(path) != expected:
      raise UserError(f"{path}: not the file that was saved")


def _sum(path: pathlib.Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
