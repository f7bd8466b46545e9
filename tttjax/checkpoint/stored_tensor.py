"""What loading needs of a tensor on disk, whatever the file's format."""

import math
from typing import Protocol

import ml_dtypes
import numpy as np

from tttjax.errors import UserError

DTYPES = {
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "F16": np.dtype(np.float16),
  "F32": np.dtype(np.float32),
}


class StoredTensor(Protocol):
  """One tensor on disk.

  Attributes:
    dtype: key of `DTYPES`: what `read` returns.
    shape: its shape in Hugging Face's layout.
  """

  dtype: str
  shape: tuple[int, ...]

  def read(self, index: tuple[slice, ...]) -> np.ndarray:
    """A copy of the part at `index`; no more of the file is touched, and nothing stays mapped."""


def num_bytes(tensor: StoredTensor) -> int:
  """Bytes of the whole tensor as `read` returns it."""
  return math.prod(tensor.shape) * DTYPES[tensor.dtype].itemsize


def format_code(dtype) -> str:
  """The key of `DTYPES`, e.g. 'BF16'; raises UserError for a dtype that is not supported."""
  try:
    return {value: code for code, value in DTYPES.items()}[np.dtype(dtype)]
  except (KeyError, TypeError):
    raise UserError(f"dtype {dtype!r} is not supported; use float32, bfloat16 or float16") from None
