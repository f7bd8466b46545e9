"""What somebody scores who does not count: the first different words of a text in random order."""

from collections.abc import Sequence

import numpy as np

_POINTS = 200


def share_of_first(counts: Sequence[int], answers: int) -> float:
  """Expected share of the answers among the first different words of a text.

  Words that occur often stand near every place of a text, so reading anywhere beats drawing from a
  list of the different words. By exponential clocks of rates `counts`: word i is among the first n
  where fewer than n of the others rang before it.

  Args:
    counts: how often each different word occurs, those of the answers first.
    answers: n, both of the answers and of the words that are written down.
  """
  rates = np.asarray(counts, np.float64)
  if len(rates) <= answers:
    return 1.0
  nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
  shares = (nodes + 1) / 2  # u = 1 - exp(-t / scale) from 0 to 1
  scale = answers / rates.sum()
  times = -np.log1p(-shares) * scale
  chances = {}
  for rate in {float(rate) for rate in rates[:answers]}:
    own = int(np.flatnonzero(rates == rate)[0])
    before = np.zeros((answers, _POINTS))  # [m]: that m of the others rang
    before[0] = 1
    for other in np.delete(rates, own):
      rang = -np.expm1(-other * times)
      before[1:] = before[1:] * (1 - rang) + before[:-1] * rang
      before[0] *= 1 - rang
    density = rate * np.exp(-rate * times) * scale / (1 - shares)
    chances[rate] = float(np.sum(weights / 2 * density * before.sum(axis=0)))
  return sum(chances[float(rate)] for rate in rates[:answers]) / answers
