"""Your own documents and questions, from a file of JSON lines."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import pathlib
import re
import string
from typing import Any, ClassVar

from tttjax.errors import UserError
from tttjax.files import read_regular
from tttjax.json_fields import NOT_EMPTY, POSITIVE, TEXT, fields, list_of, must_be, one_of
from tttjax.tasks.benchmarks import text_scores
from tttjax.tasks.benchmarks.cutting import cut_middle
from tttjax.tasks.benchmarks.data_files import Record, read_data
from tttjax.tasks.benchmarks.documents import Asked, Document, DocumentSet, grouped
from tttjax.tasks.example import Question

_SCORES = {"f1": text_scores.f1, "exact": text_scores.exact, "contains": text_scores.contains}
METRICS = (*_SCORES, "rouge", "acc")
_ANSWER_TOKENS = 128
_HEAD = "[TASK] Answer the question about the text below.\n[CONTEXT]\n"

_NAME = must_be("text or a whole number", lambda value: type(value) in (str, int))
_RECORD = fields(
  {"id": _NAME, "question": NOT_EMPTY},
  {
    "context": NOT_EMPTY,
    "context_file": NOT_EMPTY,
    "answers": list_of(TEXT, 1),
    "choices": list_of(NOT_EMPTY, 2),
    "answer": _NAME,
    "metric": one_of(*METRICS),
    "max_new_tokens": POSITIVE,
  },
)


@dataclasses.dataclass(frozen=True)
class OwnDocuments:
  """Lines {id, context | context_file, question, answers | choices + answer, metric?,
  max_new_tokens?}.

  `context_file` is a path from the file's folder. `answer` is the letter (A, B, ...) of the right
  choice, or its number from 0. `metric` is 'f1' (the default), 'exact', 'contains' or 'rouge' for
  answers, 'acc' for choices.
  """

  name: ClassVar[str] = "own"
  label: ClassVar[str] = "own documents"
  description: ClassVar[str] = "Questions about documents of one's own."
  data: ClassVar[str] = (
    "a .jsonl file of {id, context | context_file, question, answers | choices + answer}"
  )

  def open(self, path: pathlib.Path) -> DocumentSet:
    """Reads the file and the documents that it names.

    Raises:
      UserError: names file, line and field of what is wrong.
    """
    file = read_data(path, _RECORD)
    seen: dict[str, str] = {}
    for record in file.records:
      if wrong := _wrong(record.values):
        raise UserError(f"{record.place}: {wrong}")
      key = str(record.values["id"])
      if key in seen:
        raise UserError(f"{record.place}: field 'id' is {key!r} as that of {seen[key]}")
      seen[key] = record.place
    documents = grouped(_asked(file.records, path.parent))
    metrics = {m for d in documents for asked in d.questions for m in asked.metrics}
    text_scores.check_installed(sorted(metrics))
    return DocumentSet(self.name, documents, {path.name: file.sha256}, _cut)

  def extract(self, text: str) -> str | None:
    """The words of the answer."""
    return " ".join(text.split()).lower() or None

  def score(self, text: str, question: Question) -> dict[str, float]:
    """Each of the question's metrics."""
    if question.metrics == text_scores.ROUGE:
      return text_scores.rouge(text, question.references)
    (metric,) = question.metrics
    if metric == "acc":
      return {metric: float(_chosen(text, question.choices or ()) in question.references)}
    return {metric: _SCORES[metric](text, question.references)}


def _wrong(values: Mapping[str, Any]) -> str | None:
  """What is wrong with fields that are each what they should be."""
  if ("context" in values) == ("context_file" in values):
    return "give one of the fields 'context' and 'context_file'"
  if ("answers" in values) == ("choices" in values):
    return "give one of the fields 'answers' and 'choices' (with 'answer')"
  metric = values.get("metric")
  if "answers" in values:
    if metric == "acc":
      return "field 'metric' is 'acc', which is for 'choices'"
    return None
  if metric not in (None, "acc"):
    return f"field 'metric' is {metric!r}, which is for 'answers'; with 'choices' it is 'acc'"
  if "answer" not in values:
    return "it has no field 'answer': the letter or the number (from 0) of the right choice"
  if len(values["choices"]) > len(string.ascii_uppercase):
    return f"field 'choices' has {len(values['choices'])} items, 26 at most"
  return None if _letter(values) else "field 'answer' names none of the choices"


def _letter(values: Mapping[str, Any]) -> str | None:
  """The letter of the right choice."""
  letters = string.ascii_uppercase[: len(values["choices"])]
  answer = values["answer"]
  if isinstance(answer, int):
    return letters[answer] if 0 <= answer < len(letters) else None
  return answer.strip() if answer.strip() in tuple(letters) else None


def _asked(
  records: Sequence[Record], folder: pathlib.Path
) -> Iterator[tuple[tuple[str, str], str, Asked]]:
  texts: dict[str, str] = {}
  for record in records:
    values = record.values
    text = values.get("context")
    if text is None:
      name = values["context_file"]
      if name not in texts:
        texts[name] = _text_of(folder, record)
      text = texts[name]
    yield (_HEAD, text.rstrip("\n")), record.place, _question(values)


def _text_of(folder: pathlib.Path, record: Record) -> str:
  path = folder / record.values["context_file"]
  try:
    text = read_regular(path).decode("utf-8")
  except UnicodeDecodeError:
    raise UserError(f"{record.place}: field 'context_file': {path} is not UTF-8 text") from None
  except UserError as error:
    raise UserError(f"{record.place}: field 'context_file': {error}") from None
  if not text.strip():
    raise UserError(f"{record.place}: field 'context_file': {path} is empty")
  return text


def _question(values: Mapping[str, Any]) -> Asked:
  text = f"\n[QUESTION] {values['question'].strip()}"
  most = values.get("max_new_tokens", _ANSWER_TOKENS)
  if "choices" not in values:
    metric = values.get("metric", "f1")
    metrics = text_scores.ROUGE if metric == "rouge" else (metric,)
    return Asked(str(values["id"]), text, tuple(values["answers"]), metrics, most)
  listed = "".join(
    f"\n({letter}) {choice.strip()}"
    for letter, choice in zip(string.ascii_uppercase, values["choices"])
  )
  return Asked(
    key=str(values["id"]),
    text=f"{text}{listed}\nReply with the letter of one choice.",
    references=(_letter(values),),
    metrics=("acc",),
    max_new_tokens=most,
    choices=tuple(values["choices"]),
    chance=1 / len(values["choices"]),
  )


def _chosen(text: str, choices: Sequence[str]) -> str | None:
  """The first letter in parentheses, else the first that stands alone and is no word."""
  letters = string.ascii_uppercase[: len(choices)]
  found = re.search(rf"\(([{letters}])\)", text) or re.search(
    rf"(?<!\w)([{letters}])(?![\w'’]| [a-z])", text.replace("*", "")
  )
  return found and found[1]


def _cut(tokenizer, document: Document, limit: int) -> tuple[str, float]:
  afters = tuple(asked.text for asked in document.questions)
  return cut_middle(tokenizer, document.before, document.text, afters, limit)
