"""Files that appear complete or not at all, and paths as a user writes them."""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import os
import pathlib
import secrets
from typing import Any

from tttjax.errors import UserError

_UNFINISHED = ".unfinished-"
# Those of this process, which one that ends without unwinding its stack must remove.
_mine: set[pathlib.Path] = set()


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary path that becomes `path` when the block ends without an error.

  The temporary file lies beside `path` and is removed on an error. Those that killed processes
  left in the same directory are removed first. The mode follows the umask.

  Raises:
    OSError: with a filename, `path` where the system names none.
  """
  with naming(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    temporary = path.with_name(f"{_UNFINISHED}{secrets.token_hex(4)}-{path.name}")
    _mine.add(temporary)
    try:
      with open(temporary, "xb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # until the process ends, however that comes
        yield temporary
        os.replace(temporary, path)
    finally:
      temporary.unlink(missing_ok=True)
      _mine.discard(temporary)


def _remove_abandoned(directory: pathlib.Path) -> None:
  for path in directory.glob(f"{_UNFINISHED}*"):
    with contextlib.suppress(OSError), open(path, "rb") as file:  # locked: being written
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      path.unlink()


def remove_unfinished() -> None:
  """Removes this process's temporary files, before an end that runs no `finally`."""
  for path in list(_mine):
    with contextlib.suppress(OSError):
      path.unlink()


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
  """Gives an OSError that names no file the name of the one that the block writes."""
  try:
    yield
  except OSError as error:
    if error.filename is None:
      error.filename = str(path)
    raise


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes strict JSON, atomically."""
  with replacing(path) as temporary:
    temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def user_path(path: str | os.PathLike, argument: str) -> pathlib.Path:
  """`path` with ~ and ~user expanded.

  Args:
    path: what the user gave.
    argument: what it was given for, named in errors.

  Raises:
    UserError: it is empty, or names a user that does not exist.
  """
  if not os.fspath(path).strip():
    raise UserError(f"{argument} is empty; give a path")
  try:
    return pathlib.Path(path).expanduser()
  except RuntimeError:
    raise UserError(f"{argument}={path}: no such user; write the home directory out") from None
