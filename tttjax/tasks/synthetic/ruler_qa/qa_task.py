"""Questions about a text of paragraphs, after RULER's question answering (Hsieh et al., 2024).

The paragraphs that hold the answer stand among others of the same file, in a drawn order. The files
are the user's (qa_files says which); the prompts are our own, the score is RULER's.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from tttjax.errors import UserError
from tttjax.spec import option
from tttjax.tasks import prompt
from tttjax.tasks.cleaned_output import clean
from tttjax.tasks.example import Example, Question
from tttjax.tasks.prompt_tokens import encode_context
from tttjax.tasks.synthetic import fitting, naming
from tttjax.tasks.synthetic.ruler_qa.qa_files import DATASETS, Asked, Questions, read_questions

_HEAD = (
  "[TASK] Some of the paragraphs below hold the answer to a question. Answer it from them."
  "\n[CONTEXT]\n"
)
_ANSWER_TOKENS = 32
_LONGEST_TOKEN = 6  # characters on average, of text: more than any tokenizer reaches
# Of all seeds: in which order the questions of a file are asked.
_ORDER = 0
# Independent random streams of one seed.
_PLACES, _OTHERS = range(2)


@dataclasses.dataclass(frozen=True)
class RulerQA:
  """A question of SQuAD or HotpotQA about paragraphs that stand among others.

  A text grows by the paragraphs that are near to the question (of the same article, or those that
  HotpotQA has as distractors) and then by those of other questions. The evidence is the paragraphs
  that hold the answer. What another paragraph says about it is not checked. An answer has RULER's
  32 tokens, or as many as the shortest reference where that is longer.

  Attributes:
    dataset: 'squad' (2.0, questions that have no answer left out) or 'hotpotqa' (distractors).
    source: the path of its dev file; there is no default.
  """

  dataset: str = option("squad", {"squad": "SQuAD", "hotpotqa": "HotpotQA"})
  source: str = option("", "source {}", "The file whose questions are asked.")

  name: ClassVar[str] = "ruler_qa"
  label: ClassVar[str] = "ruler qa"
  description: ClassVar[str] = (
    "A question of SQuAD or HotpotQA about paragraphs that stand among others of the same data. "
    "Scored as RULER: whether an answer of the data stands in the output, upper or lower case. A "
    "model may know answers without the text."
  )
  unit: ClassVar[str] = "paragraphs"
  benchmark: ClassVar[str] = "RULER"
  most_questions: ClassVar[int] = 1
  answer_tokens: ClassVar[int] = _ANSWER_TOKENS

  def __post_init__(self):
    if self.dataset not in DATASETS:
      raise UserError(f"ruler_qa: dataset={self.dataset!r}: choose one of {', '.join(DATASETS)}")

  def check(self, length: int, in_tokens: bool) -> None:
    """Raises UserError for a file that cannot be used and for a length that cannot be filled."""
    data = self._data
    golden = [sum(len(data.paragraphs[i]) for i in asked.golden) for asked in data.asked]
    fewest = (
      max(golden) // _LONGEST_TOKEN if in_tokens else max(len(asked.golden) for asked in data.asked)
    )
    if length < fewest:
      raise UserError(self._too_short(length, in_tokens, fewest))
    # No tokenizer has more tokens than bytes, and a paragraph's number is short.
    each = [len(_shown(0, text).encode()) + 8 for text in data.paragraphs]
    if length > (len(_HEAD) + sum(each) if in_tokens else len(each)):
      raise UserError(self._too_long(length, in_tokens))

  @property
  def _data(self) -> Questions:
    if not self.source:
      raise UserError(
        f"ruler_qa: give source=PATH, the file {DATASETS[self.dataset]} of dataset={self.dataset}"
      )
    return read_questions(self.dataset, self.source)

  def _too_short(self, length: int, in_tokens: bool, fewest: int) -> str:
    return (
      f"length={naming.in_units(self, length, in_tokens)} do not hold the paragraphs that"
      f" questions of ruler_qa(dataset={self.dataset}) are about; raise it to {fewest} or more"
    )

  def _too_long(self, length: int, in_tokens: bool) -> str:
    return (
      f"length={naming.in_units(self, length, in_tokens)}: {self.source} has only"
      f" {len(self._data.paragraphs)} different paragraphs; shorten it"
    )

  def at(self, seed: int, length: int, tokenizer, in_tokens: bool) -> Example:
    """The question of `seed` and its paragraphs; those of a shorter text are in a longer one.

    Args:
      seed: names the example; the questions of a file are asked in a drawn order, each once before
        any is asked again.
      length: most tokens of the context, chat header included, so that the next paragraph would
        not fit, or paragraphs (exactly so many).
      tokenizer: transformers fast tokenizer.
      in_tokens: how `length` counts.

    Raises:
      UserError: see `check`; or the question's own paragraphs do not fit.
    """
    self.check(length, in_tokens)
    data = self._data
    order = np.random.default_rng(_ORDER).permutation(len(data.asked))
    asked = data.asked[order[seed % len(order)]]
    stream = _stream(data, asked, np.random.default_rng((seed, _OTHERS)))
    rendered = prompt.render(tokenizer, _HEAD, "")
    head, header = rendered.context, rendered.header
    places = lambda count: np.random.default_rng((seed, _PLACES)).random(count)
    # Beyond the end it is one that was there before: see below.
    chosen = lambda count: stream[np.argsort(places(count)) % len(stream)]
    texts_of = lambda count: [
      _shown(number, data.paragraphs[i]) for number, i in enumerate(chosen(count), 1)
    ]
    least = len(asked.golden)
    size = lambda more: len(
      encode_context(tokenizer, head + "".join(texts_of(least + more)), header)[0]
    )
    count = length
    if in_tokens:
      if (fewest := size(0)) > length:
        raise UserError(self._too_short(length, in_tokens, fewest))
      count = least + fitting.longest(size, length)
    if count > len(stream):
      raise UserError(self._too_long(length, in_tokens))
    texts = texts_of(count)
    context = head + "".join(texts)
    _, offsets = encode_context(tokenizer, context, header)
    starts = len(head) + np.cumsum([0, *map(len, texts[:-1])])
    ends = starts + [len(text.rstrip("\n")) for text in texts]
    most = len(encode_context(tokenizer, asked.answers[0], 0)[0])
    question = prompt.render(
      tokenizer, _HEAD, prompt.headed(f"{asked.question} Reply with the answer only.")
    )
    return Example(
      context=context,
      questions=(
        Question(
          text=question.text,
          thinking_text=question.thinking_text,
          references=asked.answers,
          metrics=("contains_any",),
          max_new_tokens=max(_ANSWER_TOKENS, most),
          evidence=tuple(
            fitting.token_span(offsets, end - len(data.paragraphs[i]), end)
            for i, end in zip(chosen(count), ends)
            if i in asked.golden
          ),
          slices={"dataset": self.dataset},
          asked=question.asked,
        ),
      ),
      num_tokens=len(offsets),
      line_starts=tuple(fitting.token_span(offsets, start, start + 1)[0] for start in starts),
      key=naming.example_key(self, length, in_tokens, seed),
      header=header,
    )

  def extract(self, text: str) -> str | None:
    """The words of the answer, in lower case."""
    return " ".join(clean(text).split()).lower() or None

  def score(self, text: str, question: Question) -> dict[str, float]:
    """'contains_any': whether a reference stands in the output, upper or lower case.

    This is RULER's string_match_part: also within a longer word. Thoughts are not read.
    """
    shown = " ".join(clean(text).split()).lower()
    return {"contains_any": float(any(one.lower() in shown for one in question.references))}


def _shown(number: int, paragraph: str) -> str:
  return f"Paragraph {number}:\n{paragraph}\n\n"


def _stream(data: Questions, asked: Asked, rng: np.random.Generator) -> np.ndarray:
  """Numbers of all paragraphs in the order in which a text grows by them."""
  golden, near = np.asarray(asked.golden, int), np.asarray(asked.near, int)
  others = np.setdiff1d(np.arange(len(data.paragraphs)), np.concatenate([golden, near]))
  return np.concatenate([golden, rng.permutation(near), rng.permutation(others)])
