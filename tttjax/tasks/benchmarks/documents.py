"""Documents with their questions, as benchmarks and a user's own files have them."""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import functools

from tttjax.errors import UserError
from tttjax.tasks import prompt
from tttjax.tasks.example import Example, Question, SecondCall
from tttjax.tasks.prompt_tokens import encode_context

# Question numbers have two digits in a row's doc_id.
MOST_QUESTIONS = 100


@dataclasses.dataclass(frozen=True)
class Asked:
  """One question about a document.

  Attributes:
    key: the benchmark's own id of the question.
    text: what follows the document in the user's message.
    references: right answers; () where they are not public, and then nothing is scored.
    separator: stands between a document that is cut and what follows it.
    others: see Question.
  """

  key: str
  text: str
  references: tuple[str, ...]
  metrics: tuple[str, ...]
  max_new_tokens: int
  choices: tuple[str, ...] | None = None
  chance: float | None = None
  slices: Mapping[str, str] = dataclasses.field(default_factory=dict)
  source: Mapping[str, str] = dataclasses.field(default_factory=dict)
  second: SecondCall | None = None
  separator: str = ""


@dataclasses.dataclass(frozen=True)
class Document:
  """A text and what is asked about it.

  Attributes:
    before: what precedes the document in the user's message.
    text: the document.
    questions: about it.
    place: file and line of its first record, named in errors.
  """

  before: str
  text: str
  questions: tuple[Asked, ...]
  place: str


# (tokenizer, document, most tokens of the message) -> (text that is kept, share of it).
Cut = Callable[..., tuple[str, float]]


@dataclasses.dataclass(frozen=True)
class DocumentSet:
  """The documents of a task (tasks.protocol.Documents).

  Attributes:
    name: of the task, for the keys of examples.
    documents: in the order of the files.
    files: SHA-256 by file name.
    cut: shortens a document whose message is too long.
    by_tokens: adds to each question's slices the bucket of its message's length in tokens.
  """

  name: str
  documents: tuple[Document, ...]
  files: Mapping[str, str]
  cut: Cut
  by_tokens: Callable[[int], str] | None = None

  @property
  def size(self) -> int:
    return len(self.documents)

  @functools.cached_property
  def most_questions(self) -> int:
    return max(len(document.questions) for document in self.documents)

  @functools.cached_property
  def answer_tokens(self) -> int:
    return max(asked.max_new_tokens for d in self.documents for asked in d.questions)

  @functools.cached_property
  def characters(self) -> int:
    return sum(len(document.text) for document in self.documents) // self.size

  def at(self, index: int, limit: int, tokenizer) -> Example:
    document = self.documents[index]
    try:
      text, kept = self.cut(tokenizer, document, limit)
    except UserError as error:
      raise UserError(f"{document.place}: {error}") from None
    rendered = [
      prompt.render(tokenizer, document.before + text, asked.text) for asked in document.questions
    ]
    context, header = rendered[0].context, rendered[0].header
    extra = {}
    if self.by_tokens:
      whole = document.before + document.text + document.questions[0].text
      extra = {"tokens": self.by_tokens(len(encode_context(tokenizer, whole, 0)[0]))}
    return Example(
      context=context,
      questions=tuple(
        Question(
          text=p.text,
          thinking_text=p.thinking_text,
          references=asked.references,
          metrics=asked.metrics,
          max_new_tokens=asked.max_new_tokens,
          choices=asked.choices,
          chance=asked.chance,
          slices={**asked.slices, **extra},
          asked=p.asked,
          key=asked.key,
          source=asked.source,
          second=asked.second,
        )
        for p, asked in zip(rendered, document.questions, strict=True)
      ),
      num_tokens=len(encode_context(tokenizer, context, header)[0]),
      line_starts=(),
      key=f"{self.name}/{document.questions[0].key}",
      header=header,
      kept=kept,
    )


def grouped(records: Iterable[tuple[tuple[str, str], str, Asked]]) -> tuple[Document, ...]:
  """Documents of questions, those about one text together and in the order of their first.

  Args:
    records: ((what precedes the document, the document), place in the files, question).
  """
  groups: dict[tuple, list[tuple[str, Asked]]] = {}
  for (before, text), place, asked in records:
    number = 0
    while len(groups.get((before, text, number), ())) >= MOST_QUESTIONS:
      number += 1
    groups.setdefault((before, text, number), []).append((place, asked))
  return tuple(
    Document(before, text, tuple(asked for _, asked in own), own[0][0])
    for (before, text, _), own in groups.items()
  )
