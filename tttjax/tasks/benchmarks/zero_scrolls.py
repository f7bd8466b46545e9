"""ZeroSCROLLS (Shaham et al., 2023): ten tasks on long texts, from summaries to sorting.

The message is the benchmark's own `input`, which holds its instructions. One that is too long
loses the end of its document: the benchmark's separator and the query follow what is left.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import csv
import dataclasses
import io
import json
import pathlib
from typing import Any, ClassVar

from tttjax.errors import UserError
from tttjax.json_fields import COUNT, ID, NOT_EMPTY, TEXT, fields, maybe
from tttjax.spec import option
from tttjax.tasks.benchmarks import text_scores
from tttjax.tasks.benchmarks.cutting import cut_end
from tttjax.tasks.benchmarks.data_files import DataFile, Record, read_data, read_member
from tttjax.tasks.benchmarks.documents import Asked, Document, DocumentSet, grouped
from tttjax.tasks.example import Question

_RECORD = fields(
  {
    "id": ID,
    "pid": ID,
    "input": NOT_EMPTY,
    "output": maybe(TEXT),
    "document_start_index": COUNT,
    "document_end_index": COUNT,
    "query_start_index": COUNT,
    "query_end_index": COUNT,
    "truncation_seperator": TEXT,  # as the benchmark spells it
  }
)


@dataclasses.dataclass(frozen=True)
class _Kind:
  """What one of the ten tasks asks for.

  Attributes:
    label: for tables.
    metrics: the primary one first.
    score: of an output against references, where there is one metric.
    max_new_tokens: longest answer.
    chance: of guessing.
  """

  label: str
  metrics: tuple[str, ...]
  max_new_tokens: int
  score: Callable[[str, Sequence[str]], float] | None = None
  chance: float | None = None


_KINDS = {
  "gov_report": _Kind("GovReport", text_scores.ROUGE, 1024),
  "summ_screen_fd": _Kind("SummScreenFD", text_scores.ROUGE, 512),
  "qmsum": _Kind("QMSum", text_scores.ROUGE, 512),
  "squality": _Kind("SQuALITY", text_scores.ROUGE, 512),
  "qasper": _Kind("Qasper", ("f1",), 128, text_scores.f1),
  "narrative_qa": _Kind("NarrativeQA", ("f1",), 64, text_scores.f1),
  "quality": _Kind("QuALITY", ("acc",), 10, text_scores.letter, 0.25),
  "musique": _Kind("MuSiQue", ("f1",), 32, text_scores.f1),
  "space_digest": _Kind(
    "SpaceDigest", ("exponential_similarity",), 36, text_scores.exponential_similarity
  ),
  "book_sum_sort": _Kind("BookSumSort", ("concordance",), 256, text_scores.concordance),
}


@dataclasses.dataclass(frozen=True)
class ZeroScrolls:
  """One of the ten tasks.

  Attributes:
    task: its name in the benchmark.
    split: 'validation', about 20 questions, or 'test', whose answers may not be public: then
      nothing is scored, and the submission's files hold the outputs.
  """

  task: str = option("", {name: kind.label for name, kind in _KINDS.items()})
  split: str = option("validation", {"test": "test", "validation": "validation"})

  name: ClassVar[str] = "zero_scrolls"
  label: ClassVar[str] = "ZeroSCROLLS"
  description: ClassVar[str] = (
    "Summaries, questions, a share of positive reviews and the order of chapters, about long texts."
    " Scored as the benchmark does: ROUGE, F1, accuracy, exponential similarity and concordance."
  )
  data: ClassVar[str] = "a folder with the tasks' zips (qasper.zip, ...), or with their folders"
  # One submission has all tasks of a split.
  submitted_together: ClassVar[tuple[str, ...]] = ("task",)

  def __post_init__(self):
    if self.task not in _KINDS:
      raise UserError(f"zero_scrolls: task={self.task!r}: choose one of {', '.join(_KINDS)}")
    if self.split not in ("validation", "test"):
      raise UserError(f"zero_scrolls: split={self.split!r}: choose validation or test")

  @property
  def _kind(self) -> _Kind:
    return _KINDS[self.task]

  def open(self, path: pathlib.Path) -> DocumentSet:
    """Reads the task's split.

    Raises:
      UserError: names file, line and field of what is wrong, or a package that is not installed.
    """
    text_scores.check_installed(self._kind.metrics)
    file = self._read(path)
    records = _checked(file.records)
    references: dict[str, list[str]] = {}
    for record in records:
      own = references.setdefault(str(record.values["id"]), [])
      if record.values["output"] is not None:
        own.append(record.values["output"])
    documents = grouped(self._asked(records, references))
    name = f"{self.task}/{self.split}.jsonl"
    return DocumentSet(self._of_split, documents, {name: file.sha256}, _cut)

  @property
  def _of_split(self) -> str:
    return f"{self.name}/{self.task}/{self.split}"

  def _read(self, path: pathlib.Path) -> DataFile:
    member = f"{self.task}/{self.split}.jsonl"
    if path.is_dir():
      if (path / member).exists():
        return read_data(path / member, _RECORD)
      path = path / f"{self.task}.zip"
    if not path.exists():
      raise UserError(f"{path}: no such file; give {self.data}")
    if path.suffix.lower() != ".zip":
      raise UserError(f"{path}: is no zip; give {self.data}")
    # The zip of a task holds it in a folder of the task's name.
    if (found := read_member(path, member, _RECORD)) is None:
      raise UserError(
        f"{path}: holds no {member}; give {self.data} (zips within a zip are not read: unpack the"
        " outer one)"
      )
    return found

  def _asked(
    self, records: Sequence[Record], references: dict[str, list[str]]
  ) -> Iterator[tuple[tuple[str, str], str, Asked]]:
    seen: set[str] = set()
    for record in records:
      values = record.values
      key = str(values["id"])
      if key in seen:
        continue  # another reference of the same question
      seen.add(key)
      text, begin, query = (
        values["input"],
        values["document_start_index"],
        values["query_start_index"],
      )
      asked = Asked(
        key=key,
        text=text[query:],
        references=tuple(references[key]),
        metrics=self._kind.metrics,
        max_new_tokens=self._kind.max_new_tokens,
        chance=self._kind.chance,
        separator=values["truncation_seperator"],
      )
      yield (text[:begin], text[begin:query]), record.place, asked

  @classmethod
  def submission(cls, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A JSON object of each task, id to prediction, and the CSV of all that its site takes."""
    tasks: dict[str, dict[str, str]] = {}
    for row in rows:
      predictions = tasks.setdefault(row["task_options"]["task"], {})
      predictions[row["doc"]["question_key"]] = row["filtered_resps"][0]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("Task", "ID", "Prediction"))
    files = {}
    for task, predictions in tasks.items():
      writer.writerows((task, key, text) for key, text in predictions.items())
      files[f"preds_{task}.json"] = json.dumps(predictions, ensure_ascii=False, indent=2) + "\n"
    return {**files, "zero_scrolls_predictions.csv": table.getvalue()}

  def extract(self, text: str) -> str | None:
    """What makes two outputs the same answer: the letter, the numbers, or the words."""
    if self.task == "quality":
      return text_scores.first_letter(text)
    return " ".join(text.split()) or None

  def score(self, text: str, question: Question) -> dict[str, float]:
    """Each of the task's metrics."""
    if self._kind.score is None:
      return text_scores.rouge(text, question.references)
    (metric,) = self._kind.metrics
    return {metric: self._kind.score(text, question.references)}


def _checked(records: Sequence[Record]) -> Sequence[Record]:
  """The records, with offsets that make sense."""
  names = ("document_start_index", "document_end_index", "query_start_index", "query_end_index")
  for record in records:
    places = [record.values[name] for name in names]
    if places != sorted(places) or places[-1] > len(record.values["input"]):
      raise UserError(
        f"{record.place}: the fields {', '.join(names)} are {places}, not ascending offsets within"
        f" the {len(record.values['input'])} characters of 'input'; fetch the file again"
      )
  return records


def _cut(tokenizer, document: Document, limit: int) -> tuple[str, float]:
  afters = tuple(asked.text for asked in document.questions)
  # Instructions stand in front of the document and are kept: the end is what goes.
  whole = document.before + document.text
  text, kept = cut_end(tokenizer, whole, afters, document.questions[0].separator, limit)
  if not text.startswith(document.before):
    raise UserError(
      f"a message of {limit} tokens does not hold the instructions; allow longer messages"
    )
  return text[len(document.before) :], kept
