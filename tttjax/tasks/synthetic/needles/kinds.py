"""The kinds of needles: the sentences that state values, and the question about them.

A form makes needles of one kind, each with words of its own, so that any number of them can stand
in one text, asked for or as distractors.
"""

from collections.abc import Sequence
import dataclasses
from typing import ClassVar, Protocol

from tttjax.tasks.synthetic.needles.words import MOST_KEYS, MOST_VARIABLES, Words

SEVERAL = ("multivalue", "multiquery", "tracking")  # kinds that ask for several values at once
KINDS = ("single", "multikey", *SEVERAL, "kv")

_UUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_NUM_UUIDS = 2**122


@dataclasses.dataclass(frozen=True)
class Needle:
  """One question and what answers it.

  Attributes:
    question: without the prompt's header.
    values: what is asked for, in the order of the answer.
    sentences: where they stand, one for each value, in the order in which a text has them.
  """

  question: str
  values: tuple[str, ...]
  sentences: tuple[str, ...]


class Form(Protocol):
  """How the needles of a kind are written.

  Attributes:
    header: start of the prompt, up to the text.
    pattern: regular expression of one value, as an output may write it.
    value_length: characters of a value.
    num_values: how many values could be drawn.
    most_needles: how many a haystack may be made of; 0 where sentences have to stand in order.
  """

  header: str
  pattern: str
  value_length: int
  num_values: int
  most_needles: int

  def needle(self, words: Words) -> Needle:
    """The next needle."""


@dataclasses.dataclass(frozen=True)
class Magic:
  """Magic numbers or codes of keys: 'The magic number for brave-otter is 1234567.'

  Attributes:
    keys: asked for in one question.
    values: of one key.
    uuids: whether a value is a UUID, else a number of 7 digits.
  """

  keys: int
  values: int
  uuids: bool

  @property
  def noun(self) -> str:
    return "code" if self.uuids else "number"

  @property
  def header(self) -> str:
    return (
      f"[TASK] The text below says what the magic {self.noun}s of some keys are. Answer the"
      " question about them.\n[CONTEXT]\n"
    )

  @property
  def pattern(self) -> str:
    return _UUID if self.uuids else r"\d{7}"

  @property
  def value_length(self) -> int:
    return 36 if self.uuids else 7

  @property
  def num_values(self) -> int:
    return _NUM_UUIDS if self.uuids else 9 * 10**6

  @property
  def most_needles(self) -> int:
    return MOST_KEYS // self.keys

  def needle(self, words: Words) -> Needle:
    keys = [words.key() for _ in range(self.keys)]
    stated = [
      (key, words.uuid() if self.uuids else words.number(7))
      for key in keys
      for _ in range(self.values)
    ]
    article = "The" if self.values == 1 else "One"
    count = self.keys * self.values
    asked = (
      f"What is the magic {self.noun} for {keys[0]}? Reply with the {self.noun} only."
      if count == 1
      else f"What are the {count} magic {self.noun}s for {_listed(keys)}? Reply with the"
      f" {self.noun}s only, separated by commas."
    )
    sentences = [f"{article} magic {self.noun} for {key} is {value}." for key, value in stated]
    return Needle(
      asked,
      tuple(value for _, value in stated),
      words.shuffled(sentences) if self.keys > 1 else tuple(sentences),
    )


@dataclasses.dataclass(frozen=True)
class Tracking:
  """Variables that hand on a number: 'VAR KD47 = 12345', then 'VAR BX02 = VAR KD47'.

  Attributes:
    variables: of one chain, all asked for.
  """

  variables: int

  header: ClassVar[str] = (
    "[TASK] The text below assigns values to variables: numbers, or the values of other variables."
    " Answer the question about them.\n[CONTEXT]\n"
  )
  pattern: ClassVar[str] = r"[A-Za-z]{2}\d{2}"
  value_length: ClassVar[int] = 4
  num_values: ClassVar[int] = MOST_VARIABLES
  most_needles: ClassVar[int] = 0

  def needle(self, words: Words) -> Needle:
    number, names = words.number(5), tuple(words.variable() for _ in range(self.variables))
    sources = (number, *(f"VAR {name}" for name in names[:-1]))
    return Needle(
      f"Which {self.variables} variables have the value {number}? Reply with their names only,"
      " separated by commas.",
      names,
      tuple(f"VAR {name} = {source}" for name, source in zip(names, sources)),
    )


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Lines of JSON, each a UUID and another one as its value."""

  header: ClassVar[str] = (
    "[TASK] Each line below is a JSON object with one key. Answer the question about them.\n"
    "[CONTEXT]\n"
  )
  pattern: ClassVar[str] = _UUID
  value_length: ClassVar[int] = 36
  num_values: ClassVar[int] = _NUM_UUIDS
  most_needles: ClassVar[int] = _NUM_UUIDS

  def needle(self, words: Words) -> Needle:
    key, value = words.uuid(), words.uuid()
    return Needle(
      f'What is the value of the key "{key}"? Reply with the value only.',
      (value,),
      (f'{{"{key}": "{value}"}}',),
    )


def _listed(names: Sequence[str]) -> str:
  """'a', 'a and b', 'a, b and c'."""
  *others, last = names
  return f"{', '.join(others)} and {last}" if others else last


def form_of(kind: str, answers: int, uuids: bool) -> Form:
  """The form of one of KINDS, with `answers` values to a question where it asks for SEVERAL."""
  if kind == "tracking":
    return Tracking(answers)
  if kind == "kv":
    return Pairs()
  return Magic(
    keys=answers if kind == "multiquery" else 1,
    values=answers if kind == "multivalue" else 1,
    uuids=uuids,
  )
