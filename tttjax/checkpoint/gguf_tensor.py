"""A tensor of a GGUF file: rows are read and dequantised as they are asked for."""

import dataclasses
import pathlib

import numpy as np

from tttjax.checkpoint.gguf_header import FETCH, TensorInfo
from tttjax.checkpoint.stored_tensor import DTYPES
from tttjax.errors import UserError
from tttjax.lazy_imports import gguf_library

# Blocks that gguf.quants turns into float32. These are what published files of the implemented
# families use and what the tests compare.
QUANTISED = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")


@dataclasses.dataclass(frozen=True)
class GgufTensor:
  """A `StoredTensor` of a GGUF file.

  Attributes:
    path: the file.
    info: where the tensor lies and how it is stored.
    heads: where positive, the rows are those of so many heads, each permuted for rotating
      neighbours: row 2 i + j of a head of d rows is row i + j d / 2 of Hugging Face's layout,
      which rotates halves. llama.cpp stores queries and keys of its llama architecture so.
  """

  path: pathlib.Path
  info: TensorInfo
  heads: int = 0

  @property
  def dtype(self) -> str:
    return self.info.type if self.info.type in DTYPES else "F32"

  @property
  def shape(self) -> tuple[int, ...]:
    return self.info.shape

  def read(self, index: tuple[slice, ...]) -> np.ndarray:
    if len(self.shape) == 1:
      return self._rows(0, 1)[0][index]
    rows, *columns = index
    start, stop, _ = rows.indices(self.shape[0])
    if not self.heads:
      return self._rows(start, stop)[(slice(None), *columns)]
    # The rows of whole heads, of which those asked for are cut.
    head_rows = self.shape[0] // self.heads
    first, last = start // head_rows, -(-stop // head_rows)
    stored = self._rows(first * head_rows, last * head_rows)
    pairs = stored.reshape(last - first, head_rows // 2, 2, -1)
    halves = pairs.swapaxes(1, 2).reshape(stored.shape)
    offset = first * head_rows
    return halves[(slice(start - offset, stop - offset), *columns)]

  def _rows(self, start: int, stop: int) -> np.ndarray:
    """Rows [stop - start, columns] as stored, dequantised; a vector is one row."""
    info = self.info
    count = (stop - start) * info.row_bytes
    try:
      data = np.fromfile(self.path, np.uint8, count, offset=info.offset + start * info.row_bytes)
    except OSError as error:
      raise UserError(f"{self.path}: cannot be read ({error.strerror}); {FETCH}") from None
    if data.size < count:
      raise UserError(f"{self.path}: truncated: tensor {info.name} is not whole; {FETCH}")
    data = data.reshape(stop - start, info.row_bytes)
    if info.type in DTYPES:
      return data.view(DTYPES[info.type])
    quants = gguf_library().quants
    return quants.dequantize(data, gguf_library().constants.GGMLQuantizationType[info.type])
