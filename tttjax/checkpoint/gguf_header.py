"""The header of a GGUF file: metadata and where each tensor lies; no tensor is read.

Follows the format's specification (ggml-org/ggml, docs/gguf.md), versions 2 and 3. The gguf
package's reader maps the whole file, takes seconds for a vocabulary, and cannot say which tensor
of a file is cut off or of an unknown type.
"""

import dataclasses
import pathlib
import struct
from typing import Any, BinaryIO

from tttjax.checkpoint.fields import shown
from tttjax.errors import UserError
from tttjax.lazy_imports import gguf_library

FETCH = "fetch the file again"
_VERSIONS = (2, 3)
# Of the values of metadata by their type's number: struct's letter.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_SCALARS[12] = "d"
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4
_LONGEST_NAME = 200  # of a tensor; llama.cpp's own limit is 64


@dataclasses.dataclass(frozen=True)
class TensorInfo:
  """Where one tensor lies.

  Attributes:
    name: its name in the file.
    type: name of its type, e.g. 'Q4_K'.
    shape: rows first, as Hugging Face's layout has it; the file lists columns first.
    offset: of its first byte in the file.
    row_bytes: of one row, the last axis.
  """

  name: str
  type: str
  shape: tuple[int, ...]
  offset: int
  row_bytes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Header:
  """What a GGUF file says before its tensors' bytes: values by key, tensors by name."""

  path: pathlib.Path
  metadata: dict[str, Any]
  tensors: dict[str, TensorInfo]


def read_header(path: pathlib.Path) -> Header:
  """Reads and checks the header.

  Raises:
    UserError: the gguf package is absent, or the file is not GGUF, of another version, truncated,
      one part of several, or holds a tensor of a type that the package does not know.
  """
  gguf_library()  # Said before anything else goes wrong.
  try:
    size = path.stat().st_size
    with open(path, "rb") as file:
      return _read(path, file, size)
  except OSError as error:
    raise UserError(f"{path}: cannot be read ({error.strerror}); {FETCH}") from None


def _read(path: pathlib.Path, file: BinaryIO, size: int) -> Header:
  if file.read(4) != b"GGUF":
    raise UserError(
      f"{path}: is not a GGUF file, or a mere pointer to one (its first bytes are not 'GGUF');"
      f" {FETCH}"
    )
  reader = _Reader(path, file, size)
  (version,) = reader.numbers("I")
  if version not in _VERSIONS:
    raise UserError(
      f"{path}: is of GGUF version {version} or big-endian, supported are little-endian versions"
      f" {', '.join(map(str, _VERSIONS))}; use a newer release of the file"
    )
  num_tensors, num_values = reader.numbers("QQ")
  metadata = {}
  for _ in range(num_values):
    key = reader.string()
    metadata[key] = reader.value(*reader.numbers("I"))
  _check_whole(path, metadata)
  described = [reader.tensor() for _ in range(num_tensors)]
  alignment = metadata.get("general.alignment", 32)
  if type(alignment) is not int or alignment < 1:
    raise UserError(f"{path}: key 'general.alignment' is {shown(alignment)} but must be positive")
  begin = -(-file.tell() // alignment) * alignment
  tensors = {
    name: _tensor_info(path, size, begin + offset, name, shape, number)
    for name, shape, number, offset in described
  }
  return Header(path, metadata, tensors)


def _check_whole(path: pathlib.Path, metadata: dict[str, Any]) -> None:
  parts = metadata.get("split.count", 0)
  if parts not in (0, 1):
    raise UserError(
      f"{path}: is one of {shown(parts)} parts; join them with"
      " `llama-gguf-split --merge FIRST_PART OUT`"
    )


def _tensor_info(
  path: pathlib.Path, size: int, offset: int, name: str, shape: tuple[int, ...], number: int
) -> TensorInfo:
  constants = gguf_library().constants
  try:
    kind = constants.GGMLQuantizationType(number)
    block, block_bytes = constants.GGML_QUANT_SIZES[kind]
  except (ValueError, KeyError):
    raise UserError(
      f"{path}: tensor {name} has type number {number}, which the installed gguf package does not"
      " know; update it, or use a release of the model in Q8_0, Q4_K or BF16"
    ) from None
  if not shape or shape[-1] % block:
    raise UserError(
      f"{path}: tensor {name} has shape {list(shape)}, whose rows are no whole blocks of {block}"
      f" values ({kind.name}); {FETCH}"
    )
  row_bytes = shape[-1] // block * block_bytes
  rows = 1
  for length in shape[:-1]:
    rows *= length
  if offset + rows * row_bytes > size:
    raise UserError(
      f"{path}: truncated: tensor {name} ends beyond the file's {size} bytes; {FETCH}"
    )
  return TensorInfo(name, kind.name, shape, offset, row_bytes)


class _Reader:
  """Reads values one after the other; whatever would go beyond the file's end is an error."""

  def __init__(self, path: pathlib.Path, file: BinaryIO, size: int):
    self._path, self._file, self._size = path, file, size

  def _bytes(self, count: int) -> bytes:
    if count > self._size - self._file.tell():  # Before memory is taken for a corrupt length.
      raise UserError(f"{self._path}: truncated or corrupt within its metadata; {FETCH}")
    return self._file.read(count)

  def numbers(self, letters: str) -> tuple:
    layout = "<" + letters
    return struct.unpack(layout, self._bytes(struct.calcsize(layout)))

  def string(self) -> str:
    return self._bytes(*self.numbers("Q")).decode("utf-8", "replace")

  def value(self, kind: int) -> Any:
    if kind in _SCALARS:
      return self.numbers(_SCALARS[kind])[0]
    if kind == _STRING:
      return self.string()
    if kind != _ARRAY:
      raise UserError(f"{self._path}: corrupt: a value of unknown type {kind}; {FETCH}")
    kind, count = self.numbers("IQ")
    if kind in _SCALARS:
      layout = f"<{min(count, self._size)}{_SCALARS[kind]}"
      return list(struct.unpack(layout, self._bytes(struct.calcsize(layout))))
    if kind == _ARRAY:  # In no file known; nesting without end would exhaust the stack.
      raise UserError(f"{self._path}: corrupt: an array of arrays; {FETCH}")
    return [self.value(kind) for _ in range(count)]

  def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
    """(name, shape, type's number, offset from the first tensor)."""
    name = self.string()
    if len(name) > _LONGEST_NAME or not name.isprintable():
      raise UserError(f"{self._path}: corrupt: a tensor is called {shown(name)}; {FETCH}")
    (dimensions,) = self.numbers("I")
    if dimensions > _MOST_DIMENSIONS:
      raise UserError(f"{self._path}: corrupt: tensor {name} has {dimensions} axes; {FETCH}")
    *shape, number, offset = self.numbers(f"{dimensions}QIQ")
    return name, tuple(reversed(shape)), number, offset
