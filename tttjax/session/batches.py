"""Rows of token ids as one rectangular batch."""

from collections.abc import Sequence

import numpy as np

from tttjax.session.values import Room


def padded(
  rows: Sequence[Sequence[int]], room: Room | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Right-pads rows of ids to int32 [R, S], at least `room`, and their lengths int32 [R]."""
  room = room or Room()
  width = max(room.tokens, *map(len, rows))
  rows = list(rows) + [rows[0]] * (room.prompts - len(rows))
  lengths = np.array([len(row) for row in rows], np.int32)
  tokens = np.zeros((len(rows), width), np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return tokens, lengths
