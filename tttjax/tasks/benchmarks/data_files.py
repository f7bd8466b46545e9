"""Records of data files: lines of JSONL, items of a JSON list, rows of Parquet, members of zips.

And of data sets on Hugging Face's hub.
"""

import codecs
from collections.abc import Iterable, Iterator
import dataclasses
import functools
import hashlib
import io
import json
import pathlib
from typing import Any
import zipfile

from tttjax.errors import UserError
from tttjax.files import read_regular
from tttjax.json_fields import Check

SUFFIXES = (".jsonl", ".json", ".parquet")
_RECORDS = {".jsonl": "line", ".json": "item in its list", ".parquet": "row"}
HUB = "hub:"  # in front of a data set's name, which is no path


@dataclasses.dataclass(frozen=True)
class Record:
  """One record and where it stands.

  Attributes:
    place: file and line, item or row, as errors name it.
    values: its fields.
  """

  place: str
  values: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class DataFile:
  """A file that was read.

  Attributes:
    name: path, of a member with that of its zip.
    records: in the order of the file.
    sha256: of its bytes, or of the JSON of its records where there is no file, hexadecimal.
  """

  name: str
  records: tuple[Record, ...]
  sha256: str


def read_data(path: pathlib.Path, check: Check, within: str = "") -> DataFile:
  """Reads a file of records by its suffix.

  Args:
    path: the file.
    check: of each record.
    within: the field of a .json file that holds the list of records; '' where the file is it.

  Raises:
    UserError: it cannot be read, or names the first line and field that is wrong.
  """
  if not path.exists():
    raise UserError(f"{path}: no such file or folder")
  if path.is_dir():
    raise UserError(f"{path}: is a folder; give a file that ends in {', '.join(SUFFIXES)}")
  return parse_data(str(path), read_regular(path), check, within)


def read_member(path: pathlib.Path, member: str, check: Check) -> DataFile | None:
  """Reads a member of a zip in place; None where the zip has none of that name, in any folder.

  Raises:
    UserError: it is no zip, is damaged, or the member is not what it should be.
  """
  try:
    with zipfile.ZipFile(io.BytesIO(read_regular(path))) as archive:
      names = [name for name in archive.namelist() if f"/{name}".endswith(f"/{member}")]
      if not names:
        return None
      data = archive.read(names[0])
  except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
    raise UserError(f"{path}: cannot be read as a zip ({error}); fetch or pack it again") from None
  return parse_data(f"{path}!{names[0]}", data, check)


def read_hub(name: str, split: str, check: Check) -> DataFile:
  """Fetches a data set of Hugging Face's hub, or takes it from the cache of the package datasets.

  Args:
    name: owner/name.
    split: of the data set.
    check: of each record.

  Raises:
    UserError: the package is not installed, the data set cannot be had, or names the first row
      and field that is wrong.
  """
  place = f"{HUB}{name}"
  try:
    import datasets  # an extra
  except ImportError:
    raise UserError(
      f"{place}: fetched with the package datasets, which is not installed; run"
      " pip install 'tttjax[benchmarks]', or give a file"
    ) from None
  try:
    rows = datasets.load_dataset(name, split=split)
  except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    raise UserError(f"{place}: cannot be fetched ({reason}); give a file") from None
  numbered = ((f"{place}: row {number}", dict(row)) for number, row in enumerate(rows, 1))
  records = tuple(_checked(numbered, check))
  if not records:
    raise UserError(f"{place}: holds no records")
  digest = hashlib.sha256()
  for record in records:
    digest.update(json.dumps(record.values, sort_keys=True, default=str).encode())
  return DataFile(place, records, digest.hexdigest())


def parse_data(name: str, data: bytes, check: Check, within: str = "") -> DataFile:
  """Records of the bytes of a file called `name`; raises as `read_data`."""
  suffix = pathlib.PurePath(name).suffix.lower()
  if suffix not in SUFFIXES:
    raise UserError(f"{name}: give a file that ends in {', '.join(SUFFIXES)}")
  items = functools.partial(_items, within=within)
  reader = {".jsonl": _lines, ".json": items, ".parquet": _rows}[suffix]
  records = tuple(_checked(reader(name, data), check))
  if not records:
    raise UserError(f"{name}: holds no records: it has no {_RECORDS[suffix]}")
  return DataFile(name, records, hashlib.sha256(data).hexdigest())


def _checked(records: Iterable[tuple[str, Any]], check: Check) -> Iterator[Record]:
  for place, value in records:
    if wrong := check("", value):
      raise UserError(f"{place}: {wrong}")
    yield Record(place, value)


def text_of(place: str, data: bytes) -> str:
  """The text of a file, which may begin with a byte order mark.

  Args:
    place: named in errors: the file, of JSON lines with the line.

  Raises:
    UserError: it is not UTF-8.
  """
  wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]
  try:
    if not wide:
      return data.decode("utf-8-sig")
    found, encoding = "it is UTF-16 or UTF-32", "UTF-16"
  except UnicodeDecodeError as error:
    found, encoding = f"{error.reason} at byte {error.start}", "ITS_ENCODING"
  raise UserError(
    f"{place}: not UTF-8 ({found}); save the file as UTF-8, in an editor or with"
    f" iconv -f {encoding} -t UTF-8 FILE > NEW"
  )


def _lines(name: str, data: bytes) -> Iterator[tuple[str, Any]]:
  for number, line in enumerate(data.split(b"\n"), 1):
    place = f"{name}: line {number}"
    if line.strip():
      yield place, _json(place, text_of(place, line))


def _items(name: str, data: bytes, within: str) -> Iterator[tuple[str, Any]]:
  items = _json(name, text_of(name, data))
  if within:
    if not isinstance(items, dict) or not isinstance(items.get(within), list):
      raise UserError(f"{name}: must hold an object whose field {within!r} is a list of records")
    items = items[within]
  if not isinstance(items, list):
    raise UserError(f"{name}: must hold a list of records (or be .jsonl, one record a line)")
  for number, item in enumerate(items, 1):
    yield f"{name}: item {number}", item


def _json(place: str, text: str) -> Any:
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise UserError(f"{place}: not JSON ({error})") from None


def _rows(name: str, data: bytes) -> Iterator[tuple[str, Any]]:
  try:
    import pyarrow
    from pyarrow import parquet  # an extra
  except ImportError:
    raise UserError(
      f"{name}: Parquet files are read with the package pyarrow, which is not installed; run"
      " pip install 'tttjax[benchmarks]', or give a .json or .jsonl file"
    ) from None
  try:
    rows = parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
  except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
    raise UserError(f"{name}: not Parquet ({str(error).splitlines()[0]})") from None
  for number, row in enumerate(rows, 1):
    yield f"{name}: row {number}", row
