"""Words that nobody knows: three syllables such as 'banuko', all of six letters.

None is part of another one, none is more common in a model's training data than the others, and
hardly any is English: so an output's words can be told from what is said around them.
"""

import itertools
import re

import numpy as np

_SYLLABLES = [a + b for a, b in itertools.product("bdgklmnprtvz", "aiou")]
_PARTS = 3
LETTERS = 2 * _PARTS
MOST_WORDS = len(_SYLLABLES) ** _PARTS
_WORD = re.compile(rf"(?<![^\W_])(?:[bdgklmnprtvz][aiou]){{{_PARTS}}}(?![^\W_])", re.IGNORECASE)


def made_words(rng: np.random.Generator, count: int) -> list[str]:
  """`count` different words, at most MOST_WORDS; the first ones whatever number is asked for."""
  numbers = rng.permutation(MOST_WORDS)[:count]
  digits = np.stack(np.unravel_index(numbers, (len(_SYLLABLES),) * _PARTS), axis=-1)
  return ["".join(_SYLLABLES[digit] for digit in word) for word in digits]


def words_in(text: str) -> set[str]:
  """The different words of this kind in a text, in lower case."""
  return {word.lower() for word in _WORD.findall(text)}
