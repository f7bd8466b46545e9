"""The frequent words of a coded text, after RULER's frequent words extraction (Hsieh et al., 2024).

How often a word occurs follows a zeta distribution: the k-th most frequent one in proportion to
1 / k^alpha, whatever the length. As there, the most frequent one of all is written as dots, which
are no word, and the three that follow are asked for.
"""

from collections.abc import Iterable
import dataclasses
import itertools
import math
from typing import ClassVar

import numpy as np

from tttjax.errors import UserError
from tttjax.spec import option
from tttjax.tasks.synthetic.word_counts.counting import WordCount

DOTS = "..."
_ANSWERS = 3
_WORDS_IN_A_LINE = 12
_ALPHAS = (1.1, 4.0)


@dataclasses.dataclass(frozen=True)
class FrequentWords(WordCount):
  """The three most frequent words of a text in which a few words are very frequent.

  Attributes:
    alpha: of the zeta distribution, 1.1 to 4; with a smaller one frequencies differ less.
  """

  alpha: float = option(2.0, "alpha {}")

  name: ClassVar[str] = "frequent_words"
  label: ClassVar[str] = "frequent words"
  description: ClassVar[str] = (
    "A text of made-up words whose frequencies follow a zeta distribution, asked for the three "
    "most frequent ones. Scored as RULER: the share of these words that stand in the output. Who "
    "does not count, but writes down the words at some place of the text, finds most of them there."
  )
  header: ClassVar[str] = (
    "[TASK] The text below is in code: nobody knows its words. Answer the question about how often"
    " they occur.\n[CONTEXT]\n"
  )
  asked: ClassVar[str] = (
    "Which three words occur most often in the text? Dots are no word. Reply with the words only,"
    " separated by commas."
  )
  answers: ClassVar[int] = _ANSWERS
  first_answer: ClassVar[int] = 1
  least_tokens: ClassVar[int] = 1  # dots, with the space before them, in some vocabularies

  def __post_init__(self):
    low, high = _ALPHAS
    if not low <= self.alpha <= high:
      raise UserError(f"frequent_words: alpha={self.alpha}: choose {low} to {high}")

  @property
  def fewest(self) -> int:
    """From here on the last answer always occurs more often than the next word."""
    last, following = _ANSWERS + 1, _ANSWERS + 2
    scale = math.ceil(1 / (last**-self.alpha - following**-self.alpha))
    times = itertools.takewhile(bool, (int(scale * k**-self.alpha) for k in itertools.count(1)))
    return sum(times)

  def stream(self, count: int) -> np.ndarray:
    # The j-th time of word k comes at j * k^alpha: then the others have their shares too.
    ranks = np.arange(1, int(count ** (1 / self.alpha)) + 2, dtype=np.float64)
    steps = ranks**self.alpha
    times = (count / steps).astype(int)
    number = np.repeat(np.arange(len(ranks)), times)
    time = np.arange(1, len(number) + 1) - np.repeat(np.cumsum(times) - times, times)
    return number[np.argsort(time * steps[number], kind="stable")][:count]

  def lines(self, words: list[str]) -> Iterable[str]:
    starts = range(0, len(words), _WORDS_IN_A_LINE)
    return (" ".join(words[start : start + _WORDS_IN_A_LINE]) + "\n" for start in starts)

  def names(self, words: list[str]) -> list[str]:
    return [DOTS, *words]
