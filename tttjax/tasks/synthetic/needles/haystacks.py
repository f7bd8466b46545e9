"""What stands around the needles: sentences by number, each the same at every length.

Sentence i has a place of its own, a share of the text between 0 and 1, and so has every needle: a
text of n sentences is the first n and the needles in the order of their places. So a longer text
has all of a shorter one's sentences in their order, and new ones between them. The places are the
fractional parts of multiples of the golden ratio, which any number of them spreads evenly: the
share of the sentences in front of a needle is its place but for a few sentences. Distractors with
several sentences to a key have drawn places, as needles have: even ones would tell them apart.
"""

from collections.abc import Callable, Iterator
import dataclasses
import itertools
from typing import TypeVar

import numpy as np

from tttjax.tasks.synthetic.needles.kinds import Form
from tttjax.tasks.synthetic.needles.sources import sentences
from tttjax.tasks.synthetic.needles.words import Words

T = TypeVar("T")

HAYSTACKS = ("prose", "noise", "needles")
NOISE = "The leaves fall, the river runs, and the day goes on."

_GOLDEN = (5**0.5 - 1) / 2


@dataclasses.dataclass(frozen=True)
class Haystack:
  """Sentences around the needles.

  Attributes:
    sentence: the text of sentence i; beyond `size` it is one that was there before.
    size: how many different ones there are; None where there is no limit.
    states_values: whether each states a value, as a needle does.
    place: share of the text in front of sentence i, in [0, 1).
  """

  sentence: Callable[[int], str]
  size: int | None
  states_values: bool
  place: Callable[[int], float]


def haystack_of(
  name: str, source: str, form: Form, words: Words, taken: int, rng: np.random.Generator
) -> Haystack:
  """One of HAYSTACKS.

  Args:
    name: 'prose' of `source`, its sentences in a drawn order; 'noise', one sentence again and
      again; 'needles', more needles of `form`.
    source: see sources.sentences.
    form: of the needles.
    words: what needles are made of.
    taken: number of needles that were made of them before.
    rng: draws the order of the prose and the first place.
  """
  first = float(rng.random())
  even = lambda i: (first + i * _GOLDEN) % 1
  if name == "noise":
    return Haystack(lambda i: NOISE, None, False, even)
  if name == "prose":
    prose = sentences(source)
    order = rng.permutation(len(prose))
    return Haystack(lambda i: prose[order[i % len(prose)]], len(prose), False, even)
  needle = form.needle(words)
  several = len(needle.sentences)
  made = itertools.chain(
    needle.sentences,
    itertools.chain.from_iterable(form.needle(words).sentences for _ in itertools.count()),
  )
  size = (form.most_needles - taken) * several
  sentence, drawn = _numbered(made), _numbered(float(rng.random()) for _ in itertools.count())
  return Haystack(lambda i: sentence(i % size), size, True, even if several == 1 else drawn)


def _numbered(items: Iterator[T]) -> Callable[[int], T]:
  """Item i of an iterator, made when it is asked for."""
  made: list[T] = []

  def item(i: int) -> T:
    while len(made) <= i:
      made.append(next(items))
    return made[i]

  return item
