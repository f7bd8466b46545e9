"""Files that appear complete or not at all, and paths as a user writes them."""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import math
import os
import pathlib
import secrets
import stat
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
    with contextlib.suppress(OSError), open(path, "rb", opener=_at_once) as file:
      # Locked: being written.
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      path.unlink()


def remove_unfinished() -> None:
  """Removes this process's temporary files, before an end that runs no `finally`."""
  for path in list(_mine):
    with contextlib.suppress(OSError):
      path.unlink()


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
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


def read_regular(path: pathlib.Path) -> bytes:
  """The bytes of a file on disk; of anything else one might wait forever.

  Raises:
    UserError: it is a FIFO, a device or a directory, or cannot be read.
  """
  try:
    with open(path, "rb", opener=_at_once) as file:
      if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file.read()
  except OSError as error:
    what = "give a file" if isinstance(error, IsADirectoryError) else "restore it"
    raise UserError(f"{path}: cannot be read ({error.strerror or error}); {what}") from None
  except ValueError as error:  # a name that no file can have
    raise UserError(f"{str(path)!r}: cannot be read ({error})") from None
  raise UserError(f"{path}: not a regular file; put one in its place")


def _at_once(name, flags: int) -> int:
  """Opens a file, but does not wait for one who writes a FIFO."""
  return os.open(name, flags | os.O_NONBLOCK)


_DEEPEST = 20  # objects and lists within each other, of what this package writes and more


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a file of strict JSON.

  Raises:
    UserError: it cannot be read, or holds something else.
  """
  data = read_regular(path)
  try:
    value = json.loads(data, parse_float=_finite, parse_constant=_finite)
  except (ValueError, RecursionError) as error:
    raise UserError(f"{path}: not JSON ({error}); restore it") from None
  if not isinstance(value, dict):
    raise UserError(f"{path}: not an object of JSON; restore it")
  if _is_deeper(value, _DEEPEST):
    raise UserError(f"{path}: nested more than {_DEEPEST} deep; restore it")
  return value


def _finite(text: str) -> float:
  """A number as JSON has it; the parser itself takes NaN and Infinity too."""
  value = float(text)
  if not math.isfinite(value):
    raise ValueError(f"{text} is no number")
  return value


def _is_deeper(value: Any, levels: int) -> bool:
  items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
  return levels < 1 and bool(items) or any(_is_deeper(item, levels - 1) for item in items)


def user_path(path: str | os.PathLike, argument: str) -> pathlib.Path:
  """`path` with ~ and ~user expanded.

  Args:
    path: what the user gave.
    argument: what it was given for, named in errors.

  Raises:
    UserError: it is no path, is empty, or names a user that does not exist.
  """
  if not isinstance(path, (str, pathlib.PurePath)):
    raise UserError(f"{argument} must be a path, not {path!r}")
  if not os.fspath(path).strip():
    raise UserError(f"{argument} is empty; give a path")
  if "\0" in os.fspath(path):
    raise UserError(f"{argument}={os.fspath(path)!r} holds a null character; give a path")
  try:
    return pathlib.Path(path).expanduser()
  except RuntimeError:
    raise UserError(f"{argument}={path}: no such user; write the home directory out") from None
