"""Needles in a haystack: values to be found in a long text, after the retrieval tasks of RULER.

RULER (Hsieh et al., 2024) asks for values that stand in a text which has nothing to do with them:
one value, the one of a key among keys, all of a key, those of several keys, all variables that hold
a number; `kv` is the same for pairs of JSON (Liu et al., Lost in the Middle, 2023). The sentences,
words and prompts here are our own; the score is RULER's.
"""

import dataclasses
import re
from typing import ClassVar

import numpy as np

from tttjax import spec
from tttjax.errors import UserError
from tttjax.spec import option
from tttjax.tasks import prompt
from tttjax.tasks.cleaned_output import clean
from tttjax.tasks.example import Example, Question
from tttjax.tasks.prompt_tokens import encode_context
from tttjax.tasks.synthetic import fitting, listed_values, naming
from tttjax.tasks.synthetic.listed_values import SEPARATOR
from tttjax.tasks.synthetic.needles.haystacks import HAYSTACKS, Haystack, haystack_of
from tttjax.tasks.synthetic.needles.kinds import KINDS, SEVERAL, Form, Needle, form_of
from tttjax.tasks.synthetic.needles.sources import sentences
from tttjax.tasks.synthetic.needles.words import Words

_MOST_NEEDLES, _MOST_ANSWERS = 64, 16
# Of an answer: of a sentence around it, and of what is said with each of several values.
_SENTENCE_TOKENS, _WITH_EACH_TOKENS = 24, 6
# Independent random streams of one seed.
_WORDS, _HAYSTACK, _PLACES = range(3)

_Place = tuple[float, float]  # share of the haystack in front, then the order within a place


@dataclasses.dataclass(frozen=True)
class _Planted:
  """A needle and the places of its sentences, ascending."""

  needle: Needle
  places: tuple[_Place, ...]


@dataclasses.dataclass(frozen=True)
class Needles:
  """Values hidden in a text.

  A question that asks for several values has one reference, all of them joined by `, ` in the order
  in which the text (of 'multiquery', the question) has them: that is the text whose
  log-probability is measured. The scores take it apart: 'recall' is the share of its values that
  stand in the output, 'all' is 1 where all of them do.

  Attributes:
    kind: what is asked: the 'single' value of a text, that of one of several keys ('multikey'), all
      values of a key ('multivalue'), the values of several keys at once ('multiquery'), all
      variables of a chain of assignments ('tracking'), the value of a key among JSON pairs of UUIDs
      ('kv').
    needles: questions that can be asked of a text, each about a needle of its own, 1 to 64; the
      needles of the others are its distractors. Not of 'single', whose texts have one.
    answers: values that one question of 'multivalue', 'multiquery' or 'tracking' asks for.
    values: 'numbers' of 7 digits or 'uuids'; of 'tracking' names of variables, of 'kv' UUIDs.
    haystack: 'prose', 'noise' (one sentence again and again) or 'needles' (others of the same
      kind); of 'kv' more pairs.
    source: the prose: a text file, a folder of text files, or '' for what Python ships.
    depth: share of the haystack's sentences in front of those that hold the answers, 0 to 1; -1
      draws a depth for each. At one depth they stand side by side, in a drawn order.
    absent: the control that cannot be answered: one question, and what holds its answer is taken
      out of the text, everything else left as it is.
  """

  kind: str = option("multikey", {kind: kind for kind in KINDS})
  needles: int = option(4, "{} needles")
  answers: int = option(4, "{} values to an answer")
  values: str = option("numbers", {"numbers": "numbers", "uuids": "UUIDs"})
  haystack: str = option(
    "prose", {"prose": "in prose", "noise": "in noise", "needles": "among needles"}
  )
  source: str = option("", "source {}", "The text file or folder whose sentences are shown.")
  depth: float = option(-1.0, "answers at depth {}", "The answers stand at one depth of the text.")
  absent: bool = option(
    False, {"on": "answer left out"}, "What holds the answer is taken out of the text (control)."
  )

  name: ClassVar[str] = "needles"
  label: ClassVar[str] = "needles"
  description: ClassVar[str] = (
    "A long text with sentences that state values, asked for one or several of them by key. Scored "
    "as RULER: the share of the values that stand in the output. Guessing knows the values, not "
    "whose they are: a text with one value is solved by whoever writes it down."
  )
  unit: ClassVar[str] = "sentences"
  benchmark: ClassVar[str] = "RULER"
  control: ClassVar[str] = "absent"

  def __post_init__(self):
    for field, choices in (
      ("kind", KINDS),
      ("values", ("numbers", "uuids")),
      ("haystack", HAYSTACKS),
    ):
      if getattr(self, field) not in choices:
        raise UserError(
          f"needles: {field}={getattr(self, field)!r}: choose one of {', '.join(choices)}"
        )
    if not 1 <= self.needles <= _MOST_NEEDLES:
      raise UserError(f"needles: needles={self.needles}: choose 1 to {_MOST_NEEDLES}")
    if self.depth != -1 and not 0 <= self.depth <= 1:
      raise UserError(f"needles: depth={self.depth}: choose 0 to 1, or -1 for random depths")
    if not 2 <= self.answers <= _MOST_ANSWERS:
      raise UserError(f"needles: answers={self.answers}: choose 2 to {_MOST_ANSWERS}")
    for field, has_no, why in (
      ("needles", self.kind == "single", "a text has one"),
      ("answers", self.kind not in SEVERAL, "a question has one answer"),
      ("values", self.kind == "tracking", "values are names of variables"),
      ("values", self.kind == "kv", "values are UUIDs"),
      ("haystack", self.kind == "kv", "the haystack is more pairs"),
      ("source", not self._in_prose, "the haystack has no prose"),
    ):
      if has_no and field in spec.options_of(self):
        raise UserError(f"needles(kind={self.kind}): leave {field} out: {why}")
    if self.haystack == "needles" and self._form.most_needles == 0:
      raise UserError(f"needles(kind={self.kind}): haystack=needles: choose prose or noise")

  # Lengths.

  @property
  def _in_prose(self) -> bool:
    return self.kind != "kv" and self.haystack == "prose"

  @property
  def most_questions(self) -> int:
    """Questions of one context at most."""
    return 1 if self.kind == "single" or self.absent else self.needles

  @property
  def answer_tokens(self) -> int:
    """Longest answer: a short sentence, and every value in tokens of one character.

    RULER's score counts an output that lists candidates; this bound on its length is what keeps
    it from listing all of many.
    """
    value = self._form.value_length + len(SEPARATOR)
    if self.kind in SEVERAL:
      value = self.answers * (value + _WITH_EACH_TOKENS)
    return _SENTENCE_TOKENS + value

  def check(self, length: int, in_tokens: bool) -> None:
    """Raises UserError for a source that cannot be used and for a length that cannot be filled."""
    texts = [text for planted in self._plant(0)[0] for text in planted.needle.sentences]
    size = sum(map(len, (self._form.header, *texts)))
    # In tokens a lower bound: those of such text have fewer than 6 characters.
    fewest = size // 6 if in_tokens else len(texts)
    if length < fewest:
      raise UserError(self._too_short(length, in_tokens, fewest))
    if self._in_prose:
      prose = sentences(self.source)
      # No tokenizer has more tokens than bytes.
      most = sum(len(sentence.encode()) + 1 for sentence in prose) if in_tokens else len(prose)
      if length - (size if in_tokens else fewest) > most:
        raise UserError(self._too_long(length, in_tokens, len(prose)))

  def _too_short(self, length: int, in_tokens: bool, fewest: int) -> str:
    return (
      f"length={naming.in_units(self, length, in_tokens)} do not hold the needles of"
      f" needles(kind={self.kind}); raise it to {fewest} or more, or ask for fewer"
    )

  def _too_long(self, length: int, in_tokens: bool, size: int) -> str:
    remedy = "name a larger source, or haystack=noise" if self._in_prose else "shorten it"
    return (
      f"length={naming.in_units(self, length, in_tokens)}: the haystack of"
      f" needles(haystack={self.haystack}, source={self.source}) has only {size} different"
      f" sentences; {remedy}"
    )

  # Examples.

  @property
  def _form(self) -> Form:
    return form_of(self.kind, self.answers, self.values == "uuids")

  def _plant(self, seed: int) -> tuple[list[_Planted], Words]:
    """The needles of a seed at their places, and the words that are left."""
    words, rng = (np.random.default_rng((seed, stream)) for stream in (_WORDS, _PLACES))
    words, planted = Words(words), []
    for _ in range(1 if self.kind == "single" else self.needles):
      needle = self._form.needle(words)
      # Sentences at one depth stand in a drawn order, or the first would be the first question's.
      drawn = sorted(tuple(pair) for pair in rng.random((len(needle.sentences), 2)).tolist())
      ties = sorted(tie for _, tie in drawn)
      planted.append(
        _Planted(
          needle,
          tuple(drawn) if self.depth < 0 else tuple((self.depth, tie) for tie in ties),
        )
      )
    return planted, words

  def at(self, seed: int, length: int, tokenizer, in_tokens: bool) -> Example:
    """The text of `seed`; questions, references and depths are the same at every length.

    Args:
      seed: names the example; examples of different seeds are independent.
      length: most tokens of the context, chat header included, so that the next sentence would not
        fit, or sentences (exactly so many). With `absent` it is the length before the answer is
        taken out.
      tokenizer: transformers fast tokenizer.
      in_tokens: how `length` counts.

    Raises:
      UserError: see `check`; or the needles do not fit, or the source is too short.
    """
    self.check(length, in_tokens)
    planted, words = self._plant(seed)
    rng = np.random.default_rng((seed, _HAYSTACK))
    name = "needles" if self.kind == "kv" else self.haystack
    hay = haystack_of(name, self.source, self._form, words, len(planted), rng)
    rendered = prompt.render(tokenizer, self._form.header, "")
    head, header = rendered.context, rendered.header
    text_of = lambda count: head + "".join(text for text, _ in arranged(hay, planted, count))
    size = lambda count: len(encode_context(tokenizer, text_of(count), header)[0])
    if in_tokens:
      if (fewest := size(0)) > length:
        raise UserError(self._too_short(length, in_tokens, fewest))
      count = fitting.longest(size, length)
    else:
      count = length - sum(len(p.places) for p in planted)
    if hay.size is not None and count > hay.size:
      raise UserError(self._too_long(length, in_tokens, hay.size))
    lines = arranged(hay, planted, count)
    candidates = len(lines) - (0 if hay.states_values else count)
    if self.absent:
      lines = [(text, owner) for text, owner in lines if owner != 0]
    context = head + "".join(text for text, _ in lines)
    _, offsets = encode_context(tokenizer, context, header)
    starts = len(head) + np.cumsum([0, *(len(text) for text, _ in lines)])
    return Example(
      context=context,
      questions=tuple(
        self._question(
          planted[j].needle,
          tokenizer,
          _evidence(lines, j, starts, offsets),
          candidates,
        )
        for j in range(self.most_questions)
      ),
      num_tokens=len(offsets),
      line_starts=tuple(fitting.token_span(offsets, start, start + 1)[0] for start in starts[:-1]),
      key=naming.example_key(self, length, in_tokens, seed),
      header=header,
    )

  def _question(self, needle: Needle, tokenizer, evidence, candidates: int) -> Question:
    asked = prompt.render(tokenizer, self._form.header, prompt.headed(needle.question))
    return Question(
      text=asked.text,
      thinking_text=asked.thinking_text,
      references=(SEPARATOR.join(needle.values),),
      metrics=("recall", "all"),
      max_new_tokens=self.answer_tokens,
      evidence=None if self.absent else evidence,
      # A guess of as many different values as are asked for: of those in the text, or of all that
      # can be drawn.
      chance=len(needle.values) / (self._form.num_values if self.absent else candidates),
      slices={"kind": self.kind},
      asked=asked.asked,
    )

  # Answers.

  def extract(self, text: str) -> str | None:
    """The different values that an output states, sorted and joined; None where it states none."""
    pattern = rf"(?<![^\W_]){self._form.pattern}(?![^\W_])"
    upper = self.kind == "tracking"
    found = re.findall(pattern, clean(text))
    values = {value.upper() if upper else value.lower() for value in found}
    return SEPARATOR.join(sorted(values)) or None

  def score(self, text: str, question: Question) -> dict[str, float]:
    """'recall': the share of the reference's values that stand in the output; 'all': all do."""
    return listed_values.shares(text, question)


def arranged(hay: Haystack, planted: list[_Planted], count: int) -> list[tuple[str, int | None]]:
  """The lines of a text with `count` sentences around the needles, in order.

  Returns:
    (line with its newline, number of the needle that it belongs to or None).
  """
  lines = [((hay.place(i), 2.0), hay.sentence(i), None) for i in range(count)]
  lines += [
    (place, sentence, j)
    for j, p in enumerate(planted)
    for place, sentence in zip(p.places, p.needle.sentences)
  ]
  lines.sort(key=lambda line: line[0])
  return [(f"{text}\n", owner) for _, text, owner in lines]


def _evidence(lines, needle: int, starts, offsets) -> tuple[tuple[int, int], ...]:
  """Token spans of a needle's sentences, without their newlines."""
  spans: list[tuple[int, int]] = []
  for (text, owner), start in zip(lines, starts):
    if owner == needle:
      span = fitting.token_span(offsets, start, start + len(text) - 1)
      if spans and span[0] < spans[-1][1]:  # one token holds parts of both
        span = spans.pop()[0], span[1]
      spans.append(span)
  return tuple(spans)
