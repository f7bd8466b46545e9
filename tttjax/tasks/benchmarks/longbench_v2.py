"""LongBench-v2 (Bai et al., 2024): multiple-choice questions about long documents.

The protocol is the benchmark's own: one user message, cut in its middle where it is too long; the
letter is read from `The correct answer is (X)`. With a chain of thought the model writes up to
1,024 tokens first, and a second call, without the document, makes the answer of them.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
import re
from typing import Any, ClassVar

from tttjax.errors import UserError
from tttjax.json_fields import ID, NOT_EMPTY, TEXT, fields, one_of
from tttjax.spec import option
from tttjax.tasks.benchmarks.cutting import cut_middle
from tttjax.tasks.benchmarks.data_files import HUB, SUFFIXES, DataFile, read_data, read_hub
from tttjax.tasks.benchmarks.documents import Asked, Document, DocumentSet, grouped
from tttjax.tasks.benchmarks.prompt_files import read_prompt
from tttjax.tasks.example import Question, SecondCall

LETTERS = "ABCD"
_ANSWER_TOKENS, _COT_TOKENS = 128, 1024
_HEAD_CHARACTERS = 1000  # of the document, in the benchmark's results
_LIKELY = (
  re.compile(r"The correct answer is \(([A-D])\)"),
  re.compile(r"The correct answer is ([A-D])"),
)
_CHOICES = tuple(f"choice_{letter}" for letter in LETTERS)
_RECORD = fields(
  {
    "_id": ID,
    "domain": TEXT,
    "sub_domain": TEXT,
    "difficulty": TEXT,
    "length": TEXT,
    "question": TEXT,
    **dict.fromkeys(_CHOICES, TEXT),
    "answer": one_of(*LETTERS),
    "context": NOT_EMPTY,
  }
)
_OWN_HEAD = "[TASK] Read the text and answer the question about it.\n[CONTEXT]\n$DOC$\n"
_OWN_ASK = (
  "[QUESTION] $Q$\n" + "".join(f"({letter}) $C_{letter}$\n" for letter in LETTERS) + "[TASK] "
)
_OWN = {
  "0shot.txt": _OWN_HEAD
  + _OWN_ASK
  + 'Reply with "The correct answer is (X)", X the letter of one choice.',
  "0shot_cot.txt": _OWN_HEAD + _OWN_ASK + "Think step by step before you choose.",
  "0shot_cot_ans.txt": _OWN_ASK
  + "Someone who has read the text thought about it:\n$COT$\nWhich choice follows from that? Reply"
  ' with "The correct answer is (X)", X the letter of one choice.',
}


@dataclasses.dataclass(frozen=True)
class LongBenchV2:
  """Documents of 8,000 to 2 million words; every question has four choices.

  Attributes:
    domain, difficulty, length: keep the questions of one domain, of 'easy' or 'hard', of 'short',
      'medium' or 'long'; '' keeps all.
    ids: keep these, separated by spaces.
    cot: let the model think step by step first (the benchmark's second protocol).
    prompts: 'own', in our words, or 'official': the benchmark's own files, from a copy of them.
  """

  domain: str = option("", "{}")
  difficulty: str = option("", "{}")
  length: str = option("", "{}")
  ids: str = option("", "some questions")
  cot: bool = option(
    False,
    {"on": "chain of thought"},
    "Chain of thought: the model writes up to 1,024 tokens about the question, then a second call,"
    " without the document, makes the answer of them.",
  )
  prompts: str = option("own", {"official": "official prompts", "own": "our prompts"})

  name: ClassVar[str] = "longbench_v2"
  label: ClassVar[str] = "LongBench-v2"
  description: ClassVar[str] = (
    "Multiple-choice questions about long documents: papers, books, code, tables, dialogues. Scored"
    ' as the benchmark does, by the first "The correct answer is (X)"; an output without it is'
    " wrong. A guess is right one time in four."
  )
  data: ClassVar[str] = (
    "its data.json (or .jsonl, .parquet), a folder that holds it and, for prompts=official, the"
    " benchmark's folder prompts, or hub:THUDM/LongBench-v2, which is fetched"
  )

  def __post_init__(self):
    for field, choices in (
      ("difficulty", ("", "easy", "hard")),
      ("length", ("", "short", "medium", "long")),
      ("prompts", ("own", "official")),
    ):
      if getattr(self, field) not in choices:
        raise UserError(
          f"longbench_v2: {field}={getattr(self, field)!r}: choose one of"
          f" {', '.join(filter(None, choices))}"
        )

  def open(self, path: pathlib.Path) -> DocumentSet:
    """Reads the questions that the options keep.

    Raises:
      UserError: names file, record and field of what is wrong; or nothing is kept.
    """
    file = read_records(path)
    templates = self._templates(path)
    records = [record for record in file.records if self._keeps(record.values)]
    if not records:
      raise UserError(f"{file.name}: {self._nothing(file)}")
    documents = grouped(
      (self._message(record.values, templates), record.place, self._asked(record.values, templates))
      for record in records
    )
    return DocumentSet(
      self.name, documents, {pathlib.Path(file.name).name: file.sha256}, _cut, _bucket
    )

  def _keeps(self, values: Mapping[str, str]) -> bool:
    wanted = self.ids.split()
    return (not wanted or str(values["_id"]) in wanted) and all(
      getattr(self, field) in ("", values[field]) for field in ("domain", "difficulty", "length")
    )

  def _nothing(self, file: DataFile) -> str:
    seen = sorted({record.values["domain"] for record in file.records})
    return (
      f"no question is left by domain={self.domain!r}, difficulty={self.difficulty!r},"
      f" length={self.length!r}, ids={self.ids!r}; its domains are {', '.join(seen)}"
    )

  def _templates(self, path: pathlib.Path) -> Mapping[str, str]:
    names = ("0shot_cot.txt", "0shot_cot_ans.txt") if self.cot else ("0shot.txt",)
    if self.prompts == "own":
      return {name: _OWN[name] for name in names}
    folder = (path if path.is_dir() else path.parent) / "prompts"
    return {name: read_prompt("longbench_v2", folder, name) for name in names}

  def _message(self, values: Mapping[str, str], templates: Mapping[str, str]) -> tuple[str, str]:
    """(What precedes the document in the message, the document)."""
    return next(iter(templates.values())).partition("$DOC$")[0], values["context"].strip()

  def _asked(self, values: Mapping[str, str], templates: Mapping[str, str]) -> Asked:
    filled = {"$Q$": values["question"].strip()}
    filled |= {f"$C_{letter}$": values[f"choice_{letter}"].strip() for letter in LETTERS}
    second = None
    if self.cot:
      before, _, after = templates["0shot_cot_ans.txt"].partition("$COT$")
      second = SecondCall(_filled(before, filled), _filled(after, filled), _ANSWER_TOKENS)
    return Asked(
      key=str(values["_id"]),
      text=_filled(next(iter(templates.values())).partition("$DOC$")[2], filled),
      references=(values["answer"],),
      metrics=("acc", "answered"),
      max_new_tokens=_COT_TOKENS if self.cot else _ANSWER_TOKENS,
      choices=tuple(values[name] for name in _CHOICES),
      chance=1 / len(LETTERS),
      slices={
        "domain": values["domain"],
        "difficulty": values["difficulty"],
        "length_class": values["length"],
      },
      source={
        name: values[name]
        for name in ("domain", "sub_domain", "difficulty", "length", "question", *_CHOICES)
      }
      | {"context": values["context"][:_HEAD_CHARACTERS]},
      second=second,
    )

  @classmethod
  def submission(cls, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Results as the benchmark's own script writes them, a line of JSON for each question."""
    task = cls()
    lines = []
    for row in rows:
      text = row["filtered_resps"][0]
      result = {
        "_id": row["doc"]["question_key"],
        **row["doc"]["source"],
        "answer": row["target"],
        **_thought(row),
        "response": text,
        "pred": task.extract(text),
        "judge": bool(row["acc"]),
      }
      lines.append(json.dumps(result, ensure_ascii=False))
    return {"longbench_v2.jsonl": "\n".join(lines) + "\n"}

  def extract(self, text: str) -> str | None:
    """The letter that an output chooses, by the benchmark's rule; None without one."""
    text = text.replace("*", "")
    return next((found[1] for likely in _LIKELY if (found := likely.search(text))), None)

  def score(self, text: str, question: Question) -> dict[str, float]:
    """'acc': the letter is right; 'answered': there is an output at all, whatever it says."""
    return {
      "acc": float(self.extract(text) in question.references),
      "answered": float(bool(text.strip())),
    }


def _thought(row: Mapping[str, Any]) -> dict[str, str]:
  """What was written before the second call, where there was one: its output has both."""
  if row["task_options"].get("cot") != "on":
    return {}
  answer = row["filtered_resps"][0]
  outputs = (text.rstrip() for text in row["resps"][0])
  chosen = next((text for text in outputs if text.endswith(answer)), "")
  return {"response_cot": chosen.removesuffix(answer).strip()}


def read_records(path: pathlib.Path) -> DataFile:
  """The questions of a file, of a folder with the benchmark's data, or of a data set by name.

  Raises:
    UserError: names file, record and field of what is wrong.
  """
  if str(path).startswith(HUB):
    return read_hub(str(path).removeprefix(HUB), "train", _RECORD)
  return read_data(_data_path(path), _RECORD)


def _filled(template: str, values: Mapping[str, str]) -> str:
  """The template with its marks replaced at once: what a value holds is no mark."""
  return re.sub("|".join(map(re.escape, values)), lambda mark: values[mark[0]], template)


def _cut(tokenizer, document: Document, limit: int) -> tuple[str, float]:
  afters = tuple(asked.text for asked in document.questions)
  return cut_middle(tokenizer, document.before, document.text, afters, limit)


def _bucket(tokens: int) -> str:
  """Of the whole message, before it is cut (S-TTT, arXiv 2607.09415, splits its table so)."""
  if tokens < 64_000:
    return "below 64k"
  return "from 64k to 128k" if tokens <= 128_000 else "over 128k"


def _data_path(path: pathlib.Path) -> pathlib.Path:
  if not path.is_dir():
    return path
  found = [path / f"data{suffix}" for suffix in SUFFIXES if (path / f"data{suffix}").exists()]
  if not found:
    raise UserError(f"{path}: holds none of {', '.join(f'data{suffix}' for suffix in SUFFIXES)}")
  return found[0]
