"""Benchmarks of documents: files, prompts, cuts and the errors of what is not as it should be."""

import hashlib
import json
import math
import pathlib
import zipfile

import pandas
import pytest

from tests import benchmark_files
from tests.errors import user_error
from tttjax.checkpoint.tokenizers import load_tokenizer
from tttjax.tasks import TASKS, prompt
from tttjax.tasks.benchmarks.longbench_v2 import LongBenchV2
from tttjax.tasks.benchmarks.own_documents import OwnDocuments
from tttjax.tasks.benchmarks.zero_scrolls import ZeroScrolls
from tttjax.tasks.prompt_tokens import encode_prompts
from tttjax.third_party import load_copy


@pytest.fixture(scope="module")
def tokenizer():
  return load_tokenizer("embedded")


@pytest.fixture
def data(tmp_path):
  return benchmark_files.longbench_v2(tmp_path / "data.json")


def whole(tokenizer, example, question=0):
  """The prompt that a model sees, as text."""
  encoded = encode_prompts(tokenizer, example)
  return tokenizer.decode([*encoded.context, *encoded.prompts[question]])


# LongBench-v2. ------------------------------------------------------------------------------------


def test_questions_about_one_document_share_it(data):
  documents = LongBenchV2().open(data)
  assert (documents.size, documents.most_questions) == (3, 2)
  assert documents.answer_tokens == 128
  assert documents.files == {"data.json": hashlib.sha256(data.read_bytes()).hexdigest()}


def test_the_prompt_holds_document_question_and_choices_and_special_tokens_as_text(data, tokenizer):
  example = LongBenchV2().open(data).at(0, 10**6, tokenizer)
  assert example.kept == 1.0 and example.questions[1].key == "second"
  text = whole(tokenizer, example)
  assert benchmark_files.document(0).strip() in text
  assert "What did the keeper count in book 0?\nChoose well." in text
  assert "(A) Boats\nand nets\n(B) $Q$ and $DOC$\n(C) \n(D) Lanterns – blue" in text
  special = tokenizer.convert_tokens_to_ids("<|im_end|>")
  encoded = encode_prompts(tokenizer, example)
  assert special not in encoded.context and encoded.prompts[0].count(special) == 1


@pytest.mark.parametrize("limit", [300, 301, 1000, 2500])
def test_a_long_message_is_cut_in_its_middle(data, tokenizer, limit):
  plain = data.read_text(encoding="utf-8").replace("<|im_end|>", "").replace("</think>", "")
  data.write_text(plain, encoding="utf-8")
  documents = LongBenchV2().open(data)
  example = documents.at(1, limit, tokenizer)
  document = documents.documents[1]
  message = document.before + document.text + document.questions[0].text
  ids = tokenizer.encode(message, add_special_tokens=False)
  assert 0 < example.kept < 1
  # The ids of its first and last half, as the benchmark takes them.
  kept = tokenizer.decode([*ids[: limit // 2], *ids[len(ids) - (limit - limit // 2) :]])
  text = whole(tokenizer, example)
  if limit > 400:  # the question fits into a half
    assert kept in text
  assert document.questions[0].text in text and document.before in text


def test_a_question_that_leaves_nothing_of_the_document_is_named(data, tokenizer):
  with user_error(f"{data}: item 1", "the question and the instructions have", "nothing of the"):
    LongBenchV2().open(data).at(0, 60, tokenizer)


@pytest.mark.parametrize(
  "options, keys",
  [
    ({"domain": "Code Repository Understanding"}, ["66" + "0" * 21 + "1"]),
    ({"difficulty": "easy", "length": "long"}, ["66" + "0" * 21 + "2"]),
    ({"ids": "second"}, ["second"]),
  ],
)
def test_options_keep_some_questions(data, options, keys):
  documents = LongBenchV2(**options).open(data).documents
  assert [asked.key for d in documents for asked in d.questions] == keys


def test_options_that_keep_nothing_name_what_there_is(data):
  with user_error(data, "domain='Law'", "its domains are Code Repository Understanding"):
    LongBenchV2(domain="Law").open(data)


@pytest.mark.parametrize(
  "text, chosen",
  [
    ("The correct answer is (B).", "B"),
    ("**The correct answer is (C)**", "C"),
    ("The correct answer is *(D)*", "D"),
    ("The correct answer is A", "A"),
    ("The correct answer is A, not: The correct answer is (B)", "B"),
    ("the correct answer is (A)", None),
    ("The correct answer is (E)", None),
    ("B", None),
    ("", None),
  ],
)
def test_the_letter_is_read_by_the_benchmarks_rule(data, text, chosen):
  task = LongBenchV2()
  assert task.extract(text) == chosen
  question = task.open(data).documents[0].questions[0]
  assert task.score(text, question) == {"acc": float(chosen == "A"), "answered": float(bool(text))}


def test_official_prompts_are_read_from_the_users_copy_and_checked(data, tokenizer):
  folder = data.parent / "prompts"
  with user_error(folder / "0shot.txt", "no such file", "THUDM/LongBench", "prompts=own"):
    LongBenchV2(prompts="official").open(data)
  folder.mkdir()
  (folder / "0shot.txt").write_text("$DOC$ $Q$ $C_A$")
  with user_error(folder / "0shot.txt", "SHA-256", "prompts=own"):
    LongBenchV2(prompts="official").open(data)
  assert set(load_copy("longbench_v2").files) == {"0shot.txt", "0shot_cot.txt", "0shot_cot_ans.txt"}


def test_a_chain_of_thought_has_a_second_call_without_the_document(data):
  documents = LongBenchV2(cot=True).open(data)
  (asked, _) = documents.documents[0].questions
  assert asked.max_new_tokens == 1024 and asked.second.max_new_tokens == 128
  assert "(A) Boats" in asked.second.before and "The correct answer is" in asked.second.after
  assert "Lom" not in asked.second.before + asked.second.after


def test_every_form_of_the_file_has_the_same_questions(data, tmp_path):
  import pyarrow
  from pyarrow import parquet

  rows = json.loads(data.read_text(encoding="utf-8"))
  lines = tmp_path / "lines.jsonl"
  lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8-sig")
  parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
  folder = tmp_path / "folder"
  folder.mkdir()
  data.rename(folder / "data.json")
  expected = LongBenchV2().open(folder).documents
  for path in (lines, tmp_path / "rows.parquet"):
    found = LongBenchV2().open(path).documents
    assert [(d.text, d.questions) for d in found] == [(d.text, d.questions) for d in expected]


def test_a_data_set_is_fetched_by_its_name(data, monkeypatch):
  import datasets

  rows = json.loads(data.read_text(encoding="utf-8"))
  asked = []

  def load_dataset(name, split):
    asked.append((name, split))
    return datasets.Dataset.from_list(rows)

  monkeypatch.setattr(datasets, "load_dataset", load_dataset)
  found = LongBenchV2().open(pathlib.Path("hub:THUDM/LongBench-v2"))
  expected = LongBenchV2().open(data)
  assert asked == [("THUDM/LongBench-v2", "train")]
  assert [(d.text, d.questions) for d in found.documents] == [
    (d.text, d.questions) for d in expected.documents
  ]
  assert list(found.files) == ["LongBench-v2"]
  before = found.files["LongBench-v2"]
  rows[0]["answer"] = "B"
  changed = LongBenchV2().open(pathlib.Path("hub:THUDM/LongBench-v2"))
  assert changed.files["LongBench-v2"] != before
  del rows[1]["question"]
  with user_error("hub:THUDM/LongBench-v2: row 2", "question"):
    LongBenchV2().open(pathlib.Path("hub:THUDM/LongBench-v2"))


def test_a_data_set_that_cannot_be_fetched_is_one_line(monkeypatch):
  import datasets

  def load_dataset(name, split):
    raise datasets.exceptions.DatasetNotFoundError("no such data set\nor no network")

  monkeypatch.setattr(datasets, "load_dataset", load_dataset)
  with user_error("hub:a/b: cannot be fetched (no such data set); give a file"):
    LongBenchV2().open(pathlib.Path("hub:a/b"))


# ZeroSCROLLS. -------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_rows_of_one_id_are_references_of_one_question(tmp_path, zipped):
  folder = benchmark_files.zero_scrolls(tmp_path / "data", ("qasper",), zipped)
  documents = ZeroScrolls("qasper").open(folder)
  (first, second) = documents.documents
  assert [q.key for q in first.questions + second.questions] == ["q0", "q2", "q1"]
  assert first.questions[0].references == ("41 boats", "C: other, 3, 2, 1 39%")
  assert first.questions[0].metrics == ("f1",) and first.questions[0].max_new_tokens == 128
  assert list(documents.files) == ["qasper/validation.jsonl"]
  if zipped:  # the zip itself may be given
    assert ZeroScrolls("qasper").open(folder / "qasper.zip").documents == documents.documents


def test_the_message_is_the_input_and_a_long_one_loses_the_end_of_its_document(tmp_path, tokenizer):
  folder = benchmark_files.zero_scrolls(tmp_path / "data", ("quality",))
  documents = ZeroScrolls("quality").open(folder)
  source = benchmark_files.zero_scrolls_rows("quality")[0]["input"]
  assert source in whole(tokenizer, documents.at(0, 10**6, tokenizer))
  cut = documents.at(0, 700, tokenizer)
  text = whole(tokenizer, cut)
  assert "You are given text for quality.\n\nBook 0." in text and 0.2 < cut.kept < 0.9
  separator, query = "... [The rest is omitted]", "\n\nQuestion:\nWhat is asked by q0?"
  assert text.index(separator + query) > 0
  kept = text[text.index("You are") : text.index(separator)]
  assert source.startswith(kept)
  asked = encode_prompts(tokenizer, cut)
  empty = prompt.render(tokenizer, "", "")
  template = len(tokenizer(empty.context + empty.text)["input_ids"])
  assert 600 < len(asked.context) + len(asked.prompts[0]) <= 700 + template


def test_answers_that_are_not_public_are_no_references(tmp_path):
  folder = benchmark_files.zero_scrolls(tmp_path / "data", ("squality",))
  documents = ZeroScrolls("squality", split="test").open(folder)
  assert {q.references for d in documents.documents for q in d.questions} == {()}


# One's own. ---------------------------------------------------------------------------------------


def test_own_documents_are_read_from_the_line_or_a_file(tmp_path, tokenizer):
  documents = OwnDocuments().open(benchmark_files.own(tmp_path / "mine.jsonl"))
  first, second = documents.documents
  assert [q.key for q in first.questions] == ["1", "2"]
  assert [q.metrics for q in second.questions] == [("contains",), ("rouge1", "rouge2", "rougeL")]
  assert second.questions[0].max_new_tokens == 20
  assert "(A) A boat\n(B) The lantern" in whole(tokenizer, documents.at(0, 9**9, tokenizer), 1)


@pytest.mark.parametrize(
  "text, right",
  [
    ("B", True),
    ("(B) The lantern", True),
    ("The answer is B.", True),
    ("**B**", True),
    ("A lantern is blue: B", True),
    ("A", False),
    ("A lantern", False),
    ("(A), not B", False),
    ("", False),
  ],
)
def test_a_choice_is_the_letter_that_stands_alone(tmp_path, text, right):
  task = OwnDocuments()
  question = task.open(benchmark_files.own(tmp_path / "a.jsonl")).documents[0].questions[1]
  assert task.score(text, question) == {"acc": float(right)}


# What is wrong. -----------------------------------------------------------------------------------

_LINE = {"id": 1, "context": "c", "question": "q", "answers": ["a"]}


@pytest.mark.parametrize(
  "change, words",
  [
    ({"id": None}, ["field 'id'"]),
    ({"question": " "}, ["field 'question'", "not empty"]),
    ({"context": ""}, ["field 'context'"]),
    ({"context_file": "x"}, ["one of the fields 'context' and 'context_file'"]),
    ({"answers": []}, ["field 'answers'"]),
    ({"answers": "a"}, ["field 'answers' must be a list"]),
    ({"choices": ["a", "b"]}, ["one of the fields 'answers' and 'choices'"]),
    ({"metric": "bleu"}, ["field 'metric'", '"f1"']),
    ({"metric": "acc"}, ["'acc'", "for 'choices'"]),
    ({"max_new_tokens": 0}, ["field 'max_new_tokens'"]),
    ({"max_new_tokens": 1.5}, ["field 'max_new_tokens'"]),
    ({"max_new_tokens": math.inf}, ["field 'max_new_tokens'"]),
    ({"answers": ..., "choices": ["a", "b"]}, ["no field 'answer'"]),
    ({"answers": ..., "choices": ["a", "b"], "answer": None}, ["no field 'answer'"]),
    (
      {"answers": ..., "choices": ["a", "b", "c"], "answer": "D"},
      ["field 'answer' is \"D\"", "none of the choices", "one of A, B, C, or", "from 0 to 2"],
    ),
    ({"answers": ..., "choices": ["a", "b"], "answer": 2}, ["none of the choices"]),
    ({"answers": ["a", " "]}, ["an item of field 'answers'", "not empty"]),
    ({"context": ..., "context_file": "absent.txt"}, ["'context_file'", "absent.txt", "no such"]),
    ({"context": ..., "context_file": "latin.txt"}, ["latin.txt", "not UTF-8", "iconv"]),
    ({"context": ..., "context_file": "wide.txt"}, ["wide.txt", "it is UTF-16", "iconv -f UTF-16"]),
    ({"context": ..., "context_file": "blank.txt"}, ["blank.txt", "is empty"]),
    ({"context": ..., "context_file": "."}, ["'context_file'", "is a folder", "give a file"]),
    ({"context": None}, ["one of the fields 'context' and 'context_file'"]),
    ({"max_new_token": 5}, ["unknown field 'max_new_token' (did you mean 'max_new_tokens'?)"]),
    ({"title": "T"}, ["unknown field 'title'; the fields are id, question, context", "'metadata'"]),
    ({"id": "\ud800"}, ["field 'id'", "surrogate", '"\\ud800" at character 1,']),
    ({"question": "q\udfff"}, ["field 'question'", "surrogate"]),
    ({"context": "q\ud83d q"}, ["field 'context'", "surrogate"]),
    ({"answers": ["a", "\ud800"]}, ["an item of field 'answers'", "surrogate"]),
    ({"answers": ..., "choices": ["a", "\ud800"], "answer": 0}, ["field 'choices'", "surrogate"]),
  ],
)
def test_a_wrong_line_is_named_by_number_and_field(tmp_path, change, words):
  (tmp_path / "latin.txt").write_bytes(b"\xfc")
  (tmp_path / "wide.txt").write_text("Boats.", encoding="utf-16")
  (tmp_path / "blank.txt").write_bytes(b"\n")
  third = {k: v for k, v in {**_LINE, "id": 3, **change}.items() if v is not ...}
  path = tmp_path / "mine.jsonl"
  path.write_text("\n".join(map(json.dumps, (_LINE, {**_LINE, "id": 2}, third))))
  with user_error(f"{path}: line 3: ", *words):
    OwnDocuments().open(path)


@pytest.mark.parametrize(
  "content, words",
  [
    (b"", "holds no records: it has no line"),
    (b"{", "line 1: not JSON"),
    (b'{"id": "\xff"}', "line 1: not UTF-8 (invalid start byte at byte 8); save the file as UTF-8"),
    ("{}".encode("utf-16"), "not UTF-8 (it is UTF-16"),
    ("{}".encode("utf-16-le"), "not UTF-8 (it is UTF-16"),
    ("{}".encode("utf-32"), "not UTF-8 (it is UTF-16"),
    (b"[1]", "line 1: not an object"),
    (b"\n\n[", "line 3: not JSON"),
    (b"[" * 99999, "line 1: not JSON"),
  ],
)
def test_a_file_that_is_no_jsonl_is_named(tmp_path, content, words):
  path = tmp_path / "mine.jsonl"
  path.write_bytes(content)
  with user_error(path, words):
    OwnDocuments().open(path)


def test_a_null_is_a_field_that_is_not_given_and_metadata_is_not_read(tmp_path):
  import pyarrow
  from pyarrow import parquet

  lines = [
    {**_LINE, "metadata": {"page": 3, "odd": "\ud800"}, "max_new_tokens": None, "metric": None},
    {**_LINE, "id": 2, "context_file": None, "choices": None, "answer": None, "metadata": None},
    {**_LINE, "id": 3, "answers": None, "choices": ["a", "b"], "answer": "A", "max_new_tokens": 5},
  ]
  path = tmp_path / "mine.jsonl"
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  (document,) = OwnDocuments().open(path).documents
  assert [(q.metrics, q.max_new_tokens) for q in document.questions] == [
    (("f1",), 128),
    (("f1",), 128),
    (("acc",), 5),
  ]
  lines[0]["metadata"] = {"page": 3}
  names = dict.fromkeys(name for line in lines for name in line)
  columns = {name: [line.get(name) for line in lines] for name in names}
  parquet.write_table(pyarrow.table(columns), tmp_path / "mine.parquet")
  (same,) = OwnDocuments().open(tmp_path / "mine.parquet").documents
  assert same.questions == document.questions
  pandas.DataFrame(lines).to_parquet(tmp_path / "mine.parquet")
  (same,) = OwnDocuments().open(tmp_path / "mine.parquet").documents
  assert same.questions == document.questions


def test_what_only_parquet_holds_is_named(tmp_path):
  import pyarrow
  from pyarrow import parquet

  path = tmp_path / "mine.parquet"
  parquet.write_table(pyarrow.Table.from_pylist([{**_LINE, "question": b"\xff"}]), path)
  with user_error(f"{path}: row 1: field 'question' must be text"):
    OwnDocuments().open(path)
  broken = pyarrow.array([b"\xff"]).view(pyarrow.string())
  parquet.write_table(pyarrow.table({"question": broken}), path)
  with user_error(f"{path}: not"):
    OwnDocuments().open(path)
  parquet.write_table(pyarrow.table({"id": pyarrow.array([], pyarrow.int64())}), path)
  with user_error(f"{path}: holds no records: it has no row"):
    OwnDocuments().open(path)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
  (tmp_path / "book.txt").write_text("Boats.", encoding="utf-8-sig")
  line = {"id": 1, "context_file": "book.txt", "question": "q", "answers": ["a"]}
  path = tmp_path / "mine.jsonl"
  path.write_text(json.dumps(line), encoding="utf-8-sig")
  assert OwnDocuments().open(path).documents[0].text == "Boats."


@pytest.mark.parametrize("task", [LongBenchV2(), ZeroScrolls("qasper"), OwnDocuments()])
def test_a_folder_without_the_data_is_named_with_what_is_wanted(task, tmp_path):
  wanted = {"longbench_v2": "data.json", "zero_scrolls": "qasper.zip", "own": ".jsonl"}[task.name]
  with user_error(tmp_path, wanted):
    task.open(tmp_path)


def test_ids_stand_once(tmp_path):
  path = tmp_path / "mine.jsonl"
  path.write_text("\n".join([json.dumps(_LINE)] * 2))
  with user_error("line 2: field 'id' is '1' as that of", "line 1"):
    OwnDocuments().open(path)


@pytest.mark.parametrize("field", ["_id", "context", "choice_C", "answer", "domain"])
def test_a_missing_field_of_longbench_is_named(data, field):
  rows = json.loads(data.read_text(encoding="utf-8"))
  del rows[2][field]
  data.write_text(json.dumps(rows), encoding="utf-8")
  with user_error(f"{data}: item 3: it has no field '{field}'"):
    LongBenchV2().open(data)


@pytest.mark.parametrize("field", ["_id", "context", "choice_C", "domain"])
def test_half_a_surrogate_pair_in_longbench_is_named(data, field):
  rows = json.loads(data.read_text(encoding="utf-8"))
  rows[2][field] = "a \ud800 b"
  data.write_text(json.dumps(rows), encoding="utf-8")
  with user_error(f"{data}: item 3: field '{field}' holds", "at character 3,", "surrogate"):
    LongBenchV2().open(data)


@pytest.mark.parametrize("field", ["id", "pid", "input", "output", "truncation_seperator"])
def test_half_a_surrogate_pair_in_zero_scrolls_is_named(tmp_path, field):
  rows = benchmark_files.zero_scrolls_rows("qasper")
  rows[1][field] = "a \ud800 b"
  (tmp_path / "qasper").mkdir()
  path = tmp_path / "qasper" / "validation.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  with user_error(f"{path}: line 2: field '{field}' holds", "at character 3,", "surrogate"):
    ZeroScrolls("qasper").open(tmp_path)


def test_a_zip_of_all_tasks_is_read_and_one_of_their_zips_is_refused(tmp_path):
  folder = benchmark_files.zero_scrolls(tmp_path / "zero", ("qasper", "musique"), zipped=False)
  expected = ZeroScrolls("qasper").open(folder).documents
  with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
    for path in folder.rglob("*.jsonl"):
      archive.write(path, path.relative_to(tmp_path))
  found = ZeroScrolls("qasper").open(tmp_path / "all.zip").documents
  assert [(d.text, d.questions) for d in found] == [(d.text, d.questions) for d in expected]
  benchmark_files.zero_scrolls(tmp_path / "zips", ("qasper",))
  with zipfile.ZipFile(tmp_path / "zips.zip", "w") as archive:
    archive.write(tmp_path / "zips" / "qasper.zip", "zips/qasper.zip")
  with user_error(tmp_path / "zips.zip", "holds no qasper/validation.jsonl", "unpack the outer"):
    ZeroScrolls("qasper").open(tmp_path / "zips.zip")
  with user_error("validation.jsonl: is no zip; give a folder with the tasks' zips"):
    ZeroScrolls("qasper").open(folder / "qasper" / "validation.jsonl")


@pytest.mark.parametrize("make", [lambda p: p.write_text("x"), lambda p: p.mkdir(), lambda p: None])
def test_what_is_no_zip_is_named(tmp_path, make):
  make(tmp_path / "qasper.zip")
  with user_error(tmp_path / "qasper.zip"):
    ZeroScrolls("qasper").open(tmp_path)


def test_a_damaged_zip_is_named(tmp_path):
  folder = benchmark_files.zero_scrolls(tmp_path / "data", ("qasper",))
  data = bytearray((folder / "qasper.zip").read_bytes())
  data[60:90] = b"x" * 30
  (folder / "qasper.zip").write_bytes(bytes(data))
  with user_error(folder / "qasper.zip"):
    ZeroScrolls("qasper").open(folder)


@pytest.mark.parametrize("field, value", [("query_start_index", 10**9), ("document_end_index", 0)])
def test_offsets_that_make_no_sense_are_named(tmp_path, field, value):
  rows = benchmark_files.zero_scrolls_rows("qasper")
  rows[1][field] = value
  (tmp_path / "qasper").mkdir()
  path = tmp_path / "qasper" / "validation.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  with user_error(f"{path}: line 2: the fields", "ascending"):
    ZeroScrolls("qasper").open(tmp_path)


@pytest.mark.parametrize("task", [LongBenchV2(), ZeroScrolls("qasper"), OwnDocuments()])
def test_a_path_that_is_not_there_is_named(task, tmp_path):
  with user_error(tmp_path / "absent"):
    task.open(tmp_path / "absent")


def test_a_task_of_zero_scrolls_is_chosen_by_name():
  with user_error("zero_scrolls", "choose one of gov_report"):
    TASKS["zero_scrolls"]()
