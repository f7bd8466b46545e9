"""What both tasks share: a stream of words that are put in a random order.

The stream says which word comes next while a text grows; each of its words has a drawn place, a
share of the text. A text of n words is the first n of the stream in the order of their places, so
a longer text has all words of a shorter one in their order, and new ones between them. The order
is random whatever the words: only their numbers tell them apart.
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from tttjax.errors import UserError
from tttjax.tasks import prompt
from tttjax.tasks.cleaned_output import clean
from tttjax.tasks.example import Example, Question
from tttjax.tasks.prompt_tokens import encode_context
from tttjax.tasks.synthetic import fitting, listed_values, naming
from tttjax.tasks.synthetic.listed_values import SEPARATOR
from tttjax.tasks.synthetic.word_counts.first_words import share_of_first
from tttjax.tasks.synthetic.word_counts.syllables import (
  LETTERS,
  MOST_WORDS,
  made_words,
  words_in,
)

# Of an answer: of a sentence around it, and of what is said with each word.
_SENTENCE_TOKENS, _WITH_EACH_TOKENS = 24, 2
# Independent random streams of one seed.
_WORDS, _PLACES = range(2)


class WordCount:
  """A text whose most frequent words are asked for, in one question.

  The reference is these words, joined by `, `. Counts have no place, so there is no evidence.

  Attributes:
    header: start of the prompt, up to the words.
    asked: the question.
    answers: how many words are the answer.
    first_answer: the stream's number of the first of them.
    fewest: words of the shortest text.
    least_tokens: of a word and what separates it: a bound that holds for every tokenizer.
  """

  name: ClassVar[str]
  unit: ClassVar[str] = "words"
  benchmark: ClassVar[str] = "RULER"
  most_questions: ClassVar[int] = 1

  header: str
  asked: str
  answers: int
  first_answer: int
  fewest: int
  least_tokens: ClassVar[int]

  def stream(self, count: int) -> np.ndarray:
    """The numbers of the first `count` words of the stream; the text's words by number."""
    raise NotImplementedError

  def lines(self, words: list[str]) -> Iterable[str]:
    """A text of these words, line by line."""
    raise NotImplementedError

  def names(self, words: list[str]) -> list[str]:
    """How the text writes its words by number, of words that were made."""
    return words

  @property
  def answer_tokens(self) -> int:
    """Longest answer: a short sentence, and every word in tokens of one character.

    RULER's score counts an output that lists more words than are asked for: this bound on its
    length is what keeps it from listing all.
    """
    return _SENTENCE_TOKENS + self.answers * (LETTERS + len(SEPARATOR) + _WITH_EACH_TOKENS)

  def check(self, length: int, in_tokens: bool) -> None:
    """Raises UserError for a length that does not hold the counts, or that words run out for."""
    fewest = self.fewest * (self.least_tokens if in_tokens else 1)
    if length < fewest:
      raise UserError(self._too_short(length, in_tokens, fewest))
    if self._different(length, in_tokens) > MOST_WORDS:
      raise UserError(
        f"length={naming.in_units(self, length, in_tokens)}: {self.name} has only"
        f" {MOST_WORDS} different words; shorten it"
      )

  def _different(self, length: int, in_tokens: bool) -> int:
    """How many different words a text has at most."""
    return int(self.stream(length // self.least_tokens if in_tokens else length).max()) + 1

  def _too_short(self, length: int, in_tokens: bool, fewest: int) -> str:
    return (
      f"length={naming.in_units(self, length, in_tokens)} do not hold the words of"
      f" {self.name}; raise it to {fewest} or more, or ask for fewer or rarer words"
    )

  def at(self, seed: int, length: int, tokenizer, in_tokens: bool) -> Example:
    """The text of `seed`; question and answer are the same at every length.

    Args:
      seed: names the example; examples of different seeds are independent.
      length: most tokens of the context, chat header included, so that the next word would not
        fit, or words (exactly so many).
      tokenizer: transformers fast tokenizer.
      in_tokens: how `length` counts.

    Raises:
      UserError: see `check`; or the fewest words do not fit.
    """
    self.check(length, in_tokens)
    rng_of = lambda stream: np.random.default_rng((seed, stream))
    names = self.names(made_words(rng_of(_WORDS), self._different(length, in_tokens)))
    rendered = prompt.render(tokenizer, self.header, "")
    head, header = rendered.context, rendered.header

    def lines_of(count: int) -> list[str]:
      order = np.argsort(rng_of(_PLACES).random(count), kind="stable")
      return list(self.lines([names[i] for i in self.stream(count)[order]]))

    def size(more: int) -> int:
      text = head + "".join(lines_of(self.fewest + more))
      return len(encode_context(tokenizer, text, header)[0])

    count = length
    if in_tokens:
      if (least := size(0)) > length:
        raise UserError(self._too_short(length, in_tokens, least))
      count = self.fewest + fitting.longest(size, length)
    lines = lines_of(count)
    context = head + "".join(lines)
    _, offsets = encode_context(tokenizer, context, header)
    starts = len(head) + np.cumsum([0, *map(len, lines[:-1])])
    reference = SEPARATOR.join(names[self.first_answer :][: self.answers])
    asked = prompt.render(tokenizer, self.header, prompt.headed(self.asked))
    counts = np.bincount(self.stream(count))[self.first_answer :]
    return Example(
      context=context,
      questions=(
        Question(
          text=asked.text,
          thinking_text=asked.thinking_text,
          references=(reference,),
          metrics=("recall", "all"),
          max_new_tokens=self.answer_tokens,
          chance=share_of_first(counts.tolist(), self.answers),
          asked=asked.asked,
        ),
      ),
      num_tokens=len(offsets),
      line_starts=tuple(fitting.token_span(offsets, start, start + 1)[0] for start in starts),
      key=naming.example_key(self, length, in_tokens, seed),
      header=header,
    )

  def extract(self, text: str) -> str | None:
    """The different words of the texts' kind in an output, sorted; None where it has none."""
    return SEPARATOR.join(sorted(words_in(clean(text)))) or None

  def score(self, text: str, question: Question) -> dict[str, float]:
    """'recall': the share of the reference's words that stand in the output; 'all': all do."""
    return listed_values.shares(text, question)
