"""Your own documents and questions, from a file of JSON lines."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import difflib
import pathlib
from typing import Any, ClassVar

from tttjax.errors import UserError
from tttjax.files import read_regular
from tttjax.json_fields import ID, NOT_EMPTY, POSITIVE, fields, list_of, one_of, short
from tttjax.tasks.benchmarks import own_scores
from tttjax.tasks.benchmarks.choice_letters import MOST_CHOICES, chosen, letters
from tttjax.tasks.benchmarks.cutting import cut_middle
from tttjax.tasks.benchmarks.data_files import Record, read_data, text_of
from tttjax.tasks.benchmarks.documents import Asked, Document, DocumentSet, grouped
from tttjax.tasks.benchmarks.text_scores import ROUGE, check_installed
from tttjax.tasks.example import Question

_SCORES = {"f1": own_scores.f1, "exact": own_scores.exact, "contains": own_scores.contains}
METRICS = (*_SCORES, "rouge", "acc")
_ANSWER_TOKENS = 128
_HEAD = "[TASK] Answer the question about the text below.\n[CONTEXT]\n"

_NEEDED = {"id": ID, "question": NOT_EMPTY}
_OPTIONAL = {
  "context": NOT_EMPTY,
  "context_file": NOT_EMPTY,
  "answers": list_of(NOT_EMPTY, 1),
  "choices": list_of(NOT_EMPTY, 2),
  "answer": ID,
  "metric": one_of(*METRICS),
  "max_new_tokens": POSITIVE,
}
_FIELDS = fields(_NEEDED, _OPTIONAL)
_IGNORED = "metadata"


@dataclasses.dataclass(frozen=True)
class OwnDocuments:
  """Lines {id, context | context_file, question, answers | choices + answer, metric?,
  max_new_tokens?}.

  `context_file` is a path from the file's folder. `answer` is the letter (A, B, ...) of the right
  choice, or its number from 0. `metric` is 'f1' (the default), 'exact', 'contains' or 'rouge' for
  answers (own_scores), 'acc' for choices (choice_letters). A field that is null counts as absent.
  What else you keep in a line stands in `metadata`, which is not read; other fields are refused,
  for they may be misspelt.
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
    file = read_data(path, _problem)
    records = [Record(record.place, _present(record.values)) for record in file.records]
    seen: dict[str, str] = {}
    for record in records:
      if wrong := _wrong(record.values):
        raise UserError(f"{record.place}: {wrong}")
      key = str(record.values["id"])
      if key in seen:
        raise UserError(f"{record.place}: field 'id' is {key!r} as that of {seen[key]}")
      seen[key] = record.place
    documents = grouped(_asked(records, path.parent))
    metrics = {m for d in documents for asked in d.questions for m in asked.metrics}
    check_installed(sorted(metrics & {*ROUGE}))
    return DocumentSet(self.name, documents, {path.name: file.sha256}, _cut)

  def extract(self, text: str) -> str | None:
    """The words of the answer."""
    return " ".join(text.split()).lower() or None

  def score(self, text: str, question: Question) -> dict[str, float]:
    """Each of the question's metrics."""
    if question.metrics == ROUGE:
      return own_scores.rouge(text, question.references)
    (metric,) = question.metrics
    if metric == "acc":
      return {metric: float(chosen(text, len(question.choices or ())) in question.references)}
    return {metric: _SCORES[metric](text, question.references)}


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
  """The fields that are given: tables have null for those that are not.

  And where they have some, pandas makes floats of the column's whole numbers.
  """
  whole = lambda value: int(value) if isinstance(value, float) and value.is_integer() else value
  return {name: whole(value) for name, value in values.items() if value is not None}


def _problem(name: str, value: Any) -> str | None:
  """What is wrong with a line, field by field."""
  given = _present(value) if isinstance(value, dict) else value
  if wrong := _FIELDS(name, given):
    return wrong
  known = (*_NEEDED, *_OPTIONAL)
  unknown = next((field for field in given if field not in (*known, _IGNORED)), None)
  if unknown is None:
    return None
  close = difflib.get_close_matches(unknown, known, n=1)
  return (
    f"unknown field {unknown!r}{f' (did you mean {close[0]!r}?)' if close else ''}; the fields are"
    f" {', '.join(known)}, and what else you keep stands in {_IGNORED!r}, which is not read"
  )


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
  number = len(values["choices"])
  if number > MOST_CHOICES:
    return f"field 'choices' has {number} items, {MOST_CHOICES} at most"
  if _letter(values):
    return None
  return (
    f"field 'answer' is {short(values['answer'])}, which names none of the choices: give one of"
    f" {', '.join(letters(number))}, or a whole number from 0 to {number - 1}"
  )


def _letter(values: Mapping[str, Any]) -> str | None:
  """The letter of the right choice."""
  allowed, answer = letters(len(values["choices"])), values["answer"]
  if isinstance(answer, int):
    return allowed[answer] if 0 <= answer < len(allowed) else None
  return answer.strip() if answer.strip() in tuple(allowed) else None


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
    if not path.exists():
      raise UserError(f"{path}: no such file; its path is read from the folder {folder}")
    if path.is_dir():
      raise UserError(f"{path}: is a folder; give a file of text")
    text = text_of(str(path), read_regular(path))
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
    metrics = ROUGE if metric == "rouge" else (metric,)
    return Asked(str(values["id"]), text, tuple(values["answers"]), metrics, most)
  listed = "".join(
    f"\n({letter}) {choice.strip()}"
    for letter, choice in zip(letters(len(values["choices"])), values["choices"])
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


def _cut(tokenizer, document: Document, limit: int) -> tuple[str, float]:
  afters = tuple(asked.text for asked in document.questions)
  return cut_middle(tokenizer, document.before, document.text, afters, limit)
