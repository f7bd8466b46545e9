"""ROUGE: how many words, word pairs or words in order a summary shares with a reference.

F1 as in Google's rouge_score without stemming (Lin, 2004, "ROUGE: A package for automatic
evaluation of summaries"): words are the runs of a-z and 0-9 of the lower-cased text.
"""

import collections
from collections.abc import Hashable, Sequence
import re


def rouge_n(text: str, reference: str, n: int) -> float:
  """F1 of the n-grams that both texts have, each as often as in the one that has it less."""
  own, right = (
    collections.Counter(zip(*(words[i:] for i in range(n))))
    for words in (_words(text), _words(reference))
  )
  return _f1((own & right).total(), own.total(), right.total())


def rouge_l(text: str, reference: str) -> float:
  """F1 of the longest common subsequence of the words, the whole text being one sentence."""
  own, right = _words(text), _words(reference)
  return _f1(_longest_common(own, right), len(own), len(right))


def _words(text: str) -> list[str]:
  return re.findall(r"[a-z0-9]+", text.lower())


def _f1(common: int, own: int, right: int) -> float:
  return 2 * common / (own + right) if common else 0.0


def _longest_common(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
  """Length of the longest common subsequence, by dynamic programming over one row."""
  lengths = [0] * (len(b) + 1)
  for item in a:
    diagonal = 0
    for j, other in enumerate(b, start=1):
      above = lengths[j]
      lengths[j] = diagonal + 1 if item == other else max(above, lengths[j - 1])
      diagonal = above
  return lengths[-1]
