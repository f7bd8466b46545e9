"""The common words of a list, after RULER's common words extraction (Hsieh et al., 2024).

A numbered list has a few words that occur often and many that occur rarely; how often does not
depend on the length, which adds rare words. RULER lists English words and shows a worked example
first; here they are made up, and there is none.
"""

from collections.abc import Iterable
import dataclasses
from typing import ClassVar

import numpy as np

from tttjax.errors import UserError
from tttjax.spec import option
from tttjax.tasks.synthetic.word_counts.counting import WordCount

_MOST_COMMON, _MOST_TIMES = 50, 1000


@dataclasses.dataclass(frozen=True)
class CommonWords(WordCount):
  """The words of a numbered list that occur more often than the others.

  Attributes:
    words: how many they are, all asked for.
    often, rarely: how often each of them, and each other word, occurs; of the last word of a text
      perhaps less.
  """

  words: int = option(10, "{} common words")
  often: int = option(30, "{} times each")
  rarely: int = option(3, "others {} times")

  name: ClassVar[str] = "common_words"
  label: ClassVar[str] = "common words"
  description: ClassVar[str] = (
    "A numbered list of made-up words, asked for those that occur more often than the others. "
    "Scored as RULER: the share of these words that stand in the output. Who does not count, but "
    "writes down what stands at some place of the list, finds common words as often as they stand "
    "there: in a short list most of them."
  )
  header: ClassVar[str] = (
    "[TASK] The list below has words that occur many times and words that occur a few times."
    " Answer the question about it.\n[CONTEXT]\n"
  )
  first_answer: ClassVar[int] = 0
  least_tokens: ClassVar[int] = 2  # a word and its number

  def __post_init__(self):
    for field, least, most in (
      ("words", 1, _MOST_COMMON),
      ("often", 2, _MOST_TIMES),
      ("rarely", 1, self.often - 1),
    ):
      if not least <= getattr(self, field) <= most:
        raise UserError(f"common_words: {field}={getattr(self, field)}: choose {least} to {most}")

  @property
  def answers(self) -> int:
    return self.words

  @property
  def asked(self) -> str:
    which = "word occurs" if self.words == 1 else f"{self.words} words occur"
    return (
      f"Which {which} most often in the list? Reply with the"
      f" {'word' if self.words == 1 else 'words'} only"
      f"{'' if self.words == 1 else ', separated by commas'}."
    )

  @property
  def fewest(self) -> int:
    return self.words * self.often + self.rarely

  def stream(self, count: int) -> np.ndarray:
    common = np.repeat(np.arange(self.words), self.often)
    others = self.words + np.arange(max(count - len(common), 0)) // self.rarely
    return np.concatenate([common, others])[:count]

  def lines(self, words: list[str]) -> Iterable[str]:
    return (f"{number}. {word}\n" for number, word in enumerate(words, 1))
