"""One row per prediction, in a JSONL file that a run appends to and resumes from."""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import tempfile
from typing import Any, Iterator

from absl import logging

from tttjax.errors import UserError

Row = dict[str, Any]
Key = tuple[str, str, str, int, int, int, int]
_KEY = ('model', 'task', 'strategy', 'seed', 'length', 'context', 'question')


def key_of(row: Row) -> Key:
  """What makes a row unique within a run."""
  return tuple(row[name] for name in _KEY)


def parse(path: pathlib.Path, data: bytes) -> dict[Key, Row]:
  """The rows in `data`, by key and in order; what follows the last line break is left out.

  Args:
    path: where they were read from, named in errors.
    data: lines of JSON.

  Raises:
    UserError: a line that is not a row, or a row that stands there twice.
  """
  rows: dict[Key, Row] = {}
  for number, line in enumerate(data[: data.rfind(b'\n') + 1].split(b'\n')[:-1], 1):
    try:
      row = json.loads(line)
      key = key_of(row)
      float(row['acc'])
    except (ValueError, KeyError, TypeError):
      raise UserError(
          f'{path}: line {number} is not a row of samples; delete that line, and the run computes'
          ' it again') from None
    if key in rows:
      name = ', '.join(f'{field}={value}' for field, value in zip(_KEY, key))
      raise UserError(f'{path}: line {number} repeats a row ({name}); delete that line')
    rows[key] = row
  return rows


def _line(row: Row) -> bytes:
  return (json.dumps(row, ensure_ascii=False, allow_nan=False) + '\n').encode('utf-8')


class Samples:
  """The rows of a run, in memory and in DIR/samples_<time>.jsonl.

  Attributes:
    rows: by key, those found in the file and those appended since.
  """

  def __init__(self, directory: pathlib.Path, retry_failed: bool = False):
    """Opens or creates the file, for this process alone.

    Args:
      directory: the run's.
      retry_failed: drop the rows of examples that failed, so that they are computed again.

    Raises:
      UserError: another process writes it, or a row cannot be read.
    """
    if packed := sorted(directory.glob('samples_*.jsonl.gz')):
      raise UserError(f'{packed[0]}: a compressed run is not continued; gunzip it, or use another'
                      ' --workdir')
    found = sorted(directory.glob('samples_*.jsonl'))
    if len(found) > 1:
      raise UserError(f'{directory} holds {len(found)} samples files; keep one')
    now = datetime.datetime.now().strftime('%Y-%m-%dT%H-%M-%S')
    self.path = found[0] if found else directory / f'samples_{now}.jsonl'
    self._open()
    self.rows = self._read()
    failed = [key for key, row in self.rows.items() if row.get('error')] if retry_failed else []
    if failed:
      for key in failed:
        del self.rows[key]
      with replacing(self.path) as temporary:
        temporary.write_bytes(b''.join(map(_line, self.rows.values())))
      self._file.close()
      self._open()  # the new file

  def _open(self) -> None:
    self._file = open(self.path, 'a+b')
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      self._file.close()
      raise UserError(
          f'{self.path}: another run is writing here; wait for it or use another --workdir'
      ) from None

  def _read(self) -> dict[Key, Row]:
    """The rows that are there; cuts off what was half written."""
    self._file.seek(0)
    data = self._file.read()
    rows = parse(self.path, data)
    end = data.rfind(b'\n') + 1
    if end < len(data):
      self._file.truncate(end)
      logging.warning(
          '%s: cut off a half-written last line (%d bytes); it is computed again',
          self.path, len(data) - end)
    return rows

  def append(self, row: Row) -> None:
    """Writes one row through to the file.

    Raises:
      ValueError: its key exists already.
    """
    key = key_of(row)
    if key in self.rows:
      raise ValueError(f'row {key} exists already')
    self._file.write(_line(row))
    self._file.flush()
    self.rows[key] = row

  def close(self) -> None:
    self._file.close()


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary path that becomes `path` when the block ends without an error."""
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.stem}_', suffix=path.suffix)
  os.close(handle)
  temporary = pathlib.Path(name)
  try:
    yield temporary
    os.chmod(temporary, 0o644)  # mkstemp's files are private
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes strict JSON, atomically."""
  with replacing(path) as temporary:
    temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + '\n', encoding='utf-8')


def prepare_workdir(directory: pathlib.Path, settings: dict[str, Any]) -> None:
  """Creates `directory` with config.json, or checks that its config.json has the same settings.

  Args:
    directory: the run's directory.
    settings: dotted field to JSON value; git_hash is kept as it was at the start, not compared.

  Raises:
    UserError: it belongs to another configuration (says which fields differ) or is unusable.
  """
  path = directory / 'config.json'
  try:
    directory.mkdir(parents=True, exist_ok=True)
    if not path.exists():
      write_json(path, settings)
      return
    old = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(old, dict):
      raise ValueError('not an object')
  except OSError as error:
    raise UserError(f'--workdir={directory}: {error.strerror}; choose another directory') from None
  except ValueError as error:
    raise UserError(f'{path}: not JSON ({error}); use another --workdir') from None
  settings = json.loads(json.dumps(settings))
  absent = '(absent)'
  differences = [
      f'{name}: {old.get(name, absent)} there, {settings.get(name, absent)} now'
      for name in {**old, **settings}
      if name != 'git_hash' and old.get(name, absent) != settings.get(name, absent)]
  if differences:
    raise UserError(
        f'--workdir={directory} holds a run of another configuration ({"; ".join(differences)});'
        ' use another --workdir, or delete that one')
