"""Scores of what models write, against a table written by hand (answer_table)."""

import collections
import decimal
import time

import answer_table
import numpy as np
import pytest

from tttjax.embedded.vocabulary import build_tokenizer
from tttjax.tasks import TASKS, number_answers
from tttjax.tasks.example import Question
from tttjax.tasks.protocol import reads_documents
from tttjax.tasks.synthetic import log_answers
from tttjax.tasks.synthetic.bank_log import BankLog
from tttjax.tasks.synthetic.code_bugs import CodeBugs, place_answers
from tttjax.tasks.synthetic.needles.kinds import KINDS as NEEDLES
from tttjax.tasks.synthetic.transaction_log import TransactionLog

# Those that make what they ask; the others read it from files.
MADE = [n for n, kind in TASKS.items() if not reads_documents(kind) and n != "ruler_qa"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tree")
  (folder / "pack").mkdir()
  for name in ("module1", "module3"):
    text = "".join(f"def f{i}(a, b):\n  return a - b\n\n\n" for i in range(20))
    (folder / "pack" / f"{name}.py").write_text(text)
  return str(folder)


def question(reference, *metrics):
  return Question("", "", (reference,), metrics, 128)


@pytest.mark.parametrize("reference, output, score", answer_table.NUMBERS)
def test_numbers_score_as_a_careful_reader_would(reference, output, score):
  for task in (BankLog("balance"), TransactionLog("amount")):
    assert task.score(output, question(reference, "acc")) == {"acc": score}


@pytest.mark.parametrize("output, kind, transaction", answer_table.ANOMALIES)
def test_anomalies_score_as_a_careful_reader_would(output, kind, transaction):
  metrics = ("acc", "type_acc", "id_acc")
  assert TransactionLog().score(output, question("{CALC_ERROR, TX00123}", *metrics)) == {
    "acc": kind and transaction,
    "type_acc": kind,
    "id_acc": transaction,
  }


@pytest.mark.parametrize("output, right, near", answer_table.PLACES)
def test_places_score_as_a_careful_reader_would(tree, output, right, near):
  asked = question("pack/module1.py:12", "acc", "within_3_acc")
  assert CodeBugs(tree).score(output, asked) == {"acc": right, "within_3_acc": near}


def test_the_table_holds_enough_of_either_score():
  rows = [row[-1] for row in (*answer_table.NUMBERS, *answer_table.ANOMALIES, *answer_table.PLACES)]
  assert len(rows) >= 120 and min(collections.Counter(rows).values()) >= 60
  outputs = [row[-2:] for row in answer_table.NUMBERS]
  assert len({*answer_table.NUMBERS}) == len(outputs)


def examples(name, tree):
  """One example of every kind of question of a registered task."""
  if name == "code_bugs":
    return [(CodeBugs(tree), CodeBugs(tree).at(0, 60, build_tokenizer(), False))]
  if name in ("common_words", "frequent_words"):
    return [(TASKS[name](), TASKS[name]().at(3, 400, build_tokenizer(), False))]
  kinds = NEEDLES if name == "needles" else ("balance", "amount", "anomaly")
  return [
    (task, task.at(3, 40, build_tokenizer(), False))
    for task in (TASKS[name](kind=kind) for kind in kinds)
  ]


@pytest.mark.parametrize("name", MADE)
def test_a_task_scores_exactly_a_questions_metrics(name, tree):
  for task, example in examples(name, tree):
    for asked in example.questions:
      for output in ("", "Final: none", asked.references[0]):
        scores = task.score(output, asked)
        assert tuple(scores) == asked.metrics
        assert all(type(value) is float and 0 <= value <= 1 for value in scores.values())


@pytest.mark.parametrize("frame", answer_table.FRAMES)
@pytest.mark.parametrize("name", MADE)
def test_a_reference_is_right_in_every_fair_decoration(name, frame, tree):
  for task, example in examples(name, tree):
    asked = example.questions[0]
    output = frame.replace("{}", asked.references[0])
    assert task.score(output, asked)[asked.metrics[0]] == 1, output
    assert task.extract(output) == task.extract(asked.references[0])


@pytest.mark.parametrize("name", MADE)
def test_a_reference_is_written_as_the_answers_that_are_compared(name, tree):
  """Several values to an answer are compared whatever their order."""
  for task, example in examples(name, tree):
    for asked in example.questions:
      (reference,) = asked.references
      if name in ("needles", "common_words", "frequent_words"):
        reference = ", ".join(sorted(reference.split(", ")))
      assert task.extract(asked.references[0]) == reference


@pytest.mark.parametrize("separator", [",", "'", "\u2009", "\u202f", "\u00a0"])
def test_grouped_numbers_are_those_that_python_writes(separator, rng):
  for value in rng.integers(-(10**7), 10**7, 50):
    text = f"{value:,}".replace(",", separator)
    assert number_answers.number(f"Final: {text}") == int(value)
    assert number_answers.number(f"{text}.25") == decimal.Decimal(f"{value}.25")


def test_any_text_is_read_without_an_error(rng):
  letters = [*"aZ09 .,:;-_<>/|{}[]()\\\n$%", "Final:", "</think>", "TX", "a.py:", "line ", "\u0661"]
  for _ in range(300):
    text = "".join(np.array(letters)[rng.integers(len(letters), size=40)])
    for task in (BankLog(), TransactionLog()):
      answer = task.extract(text)
      # An answer is read again as itself.
      assert answer is None or task.extract(answer) == answer


@pytest.mark.parametrize(
  "text, place",
  [
    ("line 7 of `__init__.py`", ("__init__.py", 7)),
    ("line 7 (pack/__init__.py)", ("pack/__init__.py", 7)),
    ('{"line": 7, "file": "pack/__init__.py"}', ("pack/__init__.py", 7)),
    ("pack/\\_\\_init\\_\\_.py:7", ("pack/__init__.py", 7)),
    ("line 7 of the file module.py", ("module.py", 7)),
    ("./a/b-c.py:1,207", ("a/b-c.py", 1207)),
    ("a.pyc:7", None),
    ("line 7.5 of a.py", None),
  ],
)
def test_paths_are_read_whole(text, place):
  assert place_answers.parse_place(text) == place


@pytest.mark.parametrize(
  "unit",
  [
    *("0", "1,", "a/", "-", "=", "12 ", "12\n", "a.py:1 ", "line 1 ", "TX1,", "Final:"),
    *(
      "a.py ",
      ": -",
      ":  ",
      "- $",
      "1. ",
      "1) 2\n",
      "minus ",
      "is ",
      "(was ",
      "340 or ",
      "|",
      "id:",
      "1-1-",
      "1 + ",
      "350 => ",
      "\\boxed{1} ",
      "not ",
      "<b>",
      "1. 2\n",
      "L1/",
      "111'",
      "not 1 ",
      "<s>",
      "~~",
      "a.py:1 not ",
    ),
  ],
)
def test_a_model_that_loops_is_read_in_time(unit):
  text = unit * (20_000 // len(unit))
  start = time.process_time()
  for read in (
    number_answers.number,
    log_answers.number,
    log_answers.anomaly,
    place_answers.parse_place,
  ):
    read(text)
  assert time.process_time() - start < 2
