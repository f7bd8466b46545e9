"""Rows of token ids as one rectangular batch."""

from collections.abc import Sequence

import numpy as np


def padded(rows: Sequence[Sequence[int]], size: int, width: int) -> tuple[np.ndarray, np.ndarray]:
  """Right-pads rows of ids to int32 [size, width], repeating the first row; and lengths [size]."""
  rows = list(rows) + [rows[0]] * (size - len(rows))
  lengths = np.array([len(row) for row in rows], np.int32)
  tokens = np.zeros((size, width), np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return tokens, lengths
