"""Where a text's tokens are, how much of a text fits into a number of them."""

from collections.abc import Callable

import numpy as np


def token_span(offsets: np.ndarray, start: int, end: int) -> tuple[int, int]:
  """Span [start, end) of the tokens that overlap the characters [start, end).

  Args:
    offsets: int [T, 2], the characters [start, end) of each token, in the order of the text.
  """
  return (
    int(np.searchsorted(offsets[:, 1], start, side="right")),
    int(np.searchsorted(offsets[:, 0], end, side="left")),
  )


def longest(count: Callable[[int], int], limit: int) -> int:
  """The largest m with count(m) <= limit; count grows in about even steps, and count(0) fits."""
  sizes = {0: count(0)}
  low, high, step = 0, None, 8
  while high is None:
    m = low + step
    sizes[m] = count(m)
    if sizes[m] > limit:
      high = m
    else:
      low = m
      missing = (limit - sizes[m]) / max(sizes[m] - sizes[0], 1) * m
      step = max(1, min(m, int(0.98 * missing)))  # Rather from below: counting costs its length.
  while high - low > 1:
    share = (limit - sizes[low]) / (sizes[high] - sizes[low])
    m = min(max(low + int(share * (high - low)), low + 1), high - 1)
    sizes[m] = count(m)
    low, high = (m, high) if sizes[m] <= limit else (low, m)
  return low
