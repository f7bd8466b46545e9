"""The files that RULER asks questions from, as their authors publish them.

squad: dev-v2.0.json of SQuAD 2.0 (Rajpurkar et al., 2018)
  {data: [{paragraphs: [{context, qas: [{question, answers: [{text}], is_impossible?}]}]}]}
hotpotqa: hotpot_dev_distractor_v1.json of HotpotQA (Yang et al., 2018)
  [{question, answer, context: [[title, [sentence]]], supporting_facts: [[title, number]]}]
"""

from collections.abc import Iterable, Iterator
import dataclasses
import functools
import pathlib
from typing import Any

from tttjax.errors import UserError
from tttjax.files import user_path
from tttjax.json_fields import FLAG, NOT_EMPTY, TEXT, Check, fields, list_of, must_be
from tttjax.tasks.benchmarks.data_files import Record, read_data

DATASETS = {"squad": "dev-v2.0.json", "hotpotqa": "hotpot_dev_distractor_v1.json"}

_SQUAD = fields(
  {
    "paragraphs": list_of(
      fields(
        {
          "context": NOT_EMPTY,
          "qas": list_of(
            fields(
              {"question": NOT_EMPTY, "answers": list_of(fields({"text": NOT_EMPTY}))},
              {"is_impossible": FLAG},
            )
          ),
        }
      )
    )
  }
)
_is_text = lambda value: NOT_EMPTY("", value) is None
_is_pair = lambda value: isinstance(value, list) and len(value) == 2 and _is_text(value[0])
_PARAGRAPH = must_be(
  "[title, [sentences]]",
  lambda value: (
    _is_pair(value) and list_of(TEXT, 1)("", value[1]) is None and any(map(str.strip, value[1]))
  ),
)
_FACT = must_be(
  "[title, number of the sentence]", lambda value: _is_pair(value) and type(value[1]) is int
)
_HOTPOTQA = fields(
  {
    "question": NOT_EMPTY,
    "answer": NOT_EMPTY,
    "context": list_of(_PARAGRAPH, 1),
    "supporting_facts": list_of(_FACT, 1),
  }
)


@dataclasses.dataclass(frozen=True)
class Asked:
  """A question and the numbers of the paragraphs around it.

  Attributes:
    question: as the file has it, its white space made single spaces.
    answers: different ones that are right, the shortest first.
    golden: the paragraphs that hold the answer.
    near: others of the same source: of the article, or those that the file gives as distractors.
  """

  question: str
  answers: tuple[str, ...]
  golden: tuple[int, ...]
  near: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Questions:
  """What a file holds.

  Attributes:
    paragraphs: different ones, each on lines without empty ones between them.
    asked: the questions that have an answer, in the order of the file.
  """

  paragraphs: tuple[str, ...]
  asked: tuple[Asked, ...]


def read_questions(dataset: str, source: str) -> Questions:
  """The questions of a file.

  Args:
    dataset: one of DATASETS.
    source: the path.

  Raises:
    UserError: no such file, or it names the item and field that is not what it should be.
  """
  return _read(dataset, user_path(source, "ruler_qa: source").resolve())


@functools.lru_cache(maxsize=4)
def _read(dataset: str, path: pathlib.Path) -> Questions:
  check: Check
  check, within, asked = (
    (_SQUAD, "data", _of_squad) if dataset == "squad" else (_HOTPOTQA, "", _of_hotpotqa)
  )
  numbers: dict[str, int] = {}
  found = tuple(asked(read_data(path, check, within).records, numbers))
  if not found:
    raise UserError(f"{path}: holds no question that has an answer; fetch it again")
  return Questions(tuple(numbers), found)


def _of_squad(records: Iterable[Record], numbers: dict[str, int]) -> Iterator[Asked]:
  for record in records:
    paragraphs: list[dict[str, Any]] = record.values["paragraphs"]
    own = [_number(_spaced(paragraph["context"]), numbers) for paragraph in paragraphs]
    for number, paragraph in zip(own, paragraphs):
      near = tuple(dict.fromkeys(other for other in own if other != number))
      for asked in paragraph["qas"]:
        if asked.get("is_impossible"):
          continue
        question = _spaced(asked["question"])
        if not asked["answers"]:
          raise UserError(
            f"{record.place}: the question {question!r} has no item in field 'answers', and"
            " 'is_impossible' is not true"
          )
        answers = dict.fromkeys(_spaced(answer["text"]) for answer in asked["answers"])
        yield Asked(question, tuple(sorted(answers, key=len)), (number,), near)


def _of_hotpotqa(records: Iterable[Record], numbers: dict[str, int]) -> Iterator[Asked]:
  for record in records:
    values = record.values
    own = {
      title: _number(f"{_spaced(title)}\n{_spaced(''.join(sentences))}", numbers)
      for title, sentences in values["context"]
    }
    titles = dict.fromkeys(title for title, _ in values["supporting_facts"])
    for title in titles:
      if title not in own:
        raise UserError(
          f"{record.place}: field 'supporting_facts' names {title!r}, which is no title in field"
          " 'context'"
        )
    golden = tuple(dict.fromkeys(own[title] for title in titles))
    near = tuple(dict.fromkeys(number for number in own.values() if number not in golden))
    yield Asked(_spaced(values["question"]), (_spaced(values["answer"]),), golden, near)


def _number(paragraph: str, numbers: dict[str, int]) -> int:
  """The number of a paragraph; equal ones have one."""
  return numbers.setdefault(paragraph, len(numbers))


def _spaced(text: str) -> str:
  return " ".join(text.split())
