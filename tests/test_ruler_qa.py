"""Questions of SQuAD and HotpotQA among paragraphs, on data that is made here."""

import itertools
import json
import re

import pytest

from tests import benchmark_files
from tttjax.embedded.vocabulary import build_tokenizer
from tttjax.errors import UserError
from tttjax.tasks.example import Question
from tttjax.tasks.prompt_tokens import encode_context
from tttjax.tasks.synthetic.ruler_qa import RulerQA

SIZES = {"squad": 30, "hotpotqa": 33}  # different paragraphs
GOLDEN = {"squad": 1, "hotpotqa": 2}


@pytest.fixture(scope="module")
def tokenizer():
  return build_tokenizer()


@pytest.fixture(scope="module", params=SIZES)
def task(request, tmp_path_factory):
  path = tmp_path_factory.mktemp("data") / f"{request.param}.json"
  return RulerQA(request.param, str(getattr(benchmark_files, request.param)(path)))


def paragraphs_of(example):
  text = example.context.split("[CONTEXT]\n")[1]
  return [part.strip() for part in re.split(r"Paragraph \d+:\n", text)[1:]]


def ids_of(tokenizer, example):
  """Of the context, in which a template's special tokens are text."""
  return encode_context(tokenizer, example.context, example.header)[0].tolist()


def test_the_evidence_is_the_paragraphs_that_hold_the_answer(task, tokenizer):
  for seed in range(6):
    example = task.at(seed, 12, tokenizer, False)
    (question,) = example.questions
    ids = ids_of(tokenizer, example)
    shown = [tokenizer.decode(ids[start:end]) for start, end in question.evidence]
    assert len(shown) == GOLDEN[task.dataset]
    assert [part for part in paragraphs_of(example) if part in shown] == shown
    assert any(question.references[0] in part for part in shown)
    assert question.metrics == ("contains_any",) and question.max_new_tokens == 32


def test_paragraphs_are_numbered_different_and_those_nearest_come_first(task, tokenizer):
  near = 5  # of the article, or of the question
  for seed in range(6):
    example = task.at(seed, near, tokenizer, False)
    mine = paragraphs_of(example)
    number = re.search(r"(?:boat|book) (\d+)", example.questions[0].text)[1]
    assert len(set(mine)) == near
    assert all(re.search(rf"(?:Book|Boat|Keeper|Net) {number}\b|^River", part) for part in mine)
    assert re.findall(r"Paragraph (\d+):", example.context) == list("12345")
  assert (
    len(set(paragraphs_of(task.at(0, SIZES[task.dataset], tokenizer, False))))
    == SIZES[task.dataset]
  )


def test_a_text_grows_around_the_same_question(task, tokenizer):
  for seed in range(4):
    texts = [task.at(seed, length, tokenizer, False) for length in (2, 3, 8, 20)]
    for short, long in itertools.pairwise(texts):
      assert short.questions[0].text == long.questions[0].text
      assert short.questions[0].references == long.questions[0].references
      rest = iter(paragraphs_of(long))
      assert all(part in rest for part in paragraphs_of(short))  # in order


def test_the_next_paragraph_would_not_fit(task, tokenizer):
  example = task.at(1, 2600, tokenizer, True)
  ids = ids_of(tokenizer, example)
  assert len(ids) == example.num_tokens <= 2600
  more = task.at(1, len(paragraphs_of(example)) + 1, tokenizer, False)
  assert more.num_tokens > 2600
  ends = [*example.line_starts[1:], len(ids)]
  assert all(
    tokenizer.decode(ids[a:b]).startswith("Paragraph") for a, b in zip(example.line_starts, ends)
  )


def test_questions_follow_from_their_seed_and_each_is_asked_once(task, tokenizer):
  assert task.at(5, 8, tokenizer, False) == task.at(5, 8, tokenizer, False)
  count = 30 if task.dataset == "squad" else 8  # those that have an answer
  asked = [task.at(seed, 2, tokenizer, False) for seed in range(count + 1)]
  texts = [example.questions[0].text for example in asked]
  assert len(set(texts)) == count and texts[0] == texts[-1]
  assert asked[0].key != asked[-1].key


def test_answers_are_those_of_the_file(task, tokenizer):
  (question,) = task.at(0, 4, tokenizer, False).questions
  if task.dataset == "squad":
    number, other = question.references  # the shortest first
    assert number.isdecimal() and other == f"{number} boats"
  else:
    assert re.fullmatch(r"Lom \d", question.references[0])
  assert "  " not in question.text and question.chance is None


def test_an_answer_may_be_as_long_as_the_shortest_reference(tmp_path, tokenizer):
  def lengthen(value):
    for asked in (q for p in value["data"][0]["paragraphs"] for q in p["qas"]):
      asked["answers"] = [{"text": "boats " * n} for n in (30, 20) if not asked["is_impossible"]]
    del value["data"][1:]

  source = changed(benchmark_files.squad(tmp_path / "q.json"), lengthen)
  (question,) = RulerQA("squad", source).at(0, 4, tokenizer, False).questions
  reference = question.references[0]
  assert reference.split() == ["boats"] * 20
  tokens = tokenizer(reference, add_special_tokens=False)["input_ids"]
  assert question.max_new_tokens == len(tokens) > 32


def ruler_string_match_part(prediction, references):
  """RULER's score of one prediction, 0 to 100, from its definition."""
  return 100 * max(1.0 if one.lower() in prediction.lower() else 0.0 for one in references)


def test_the_score_is_that_of_ruler(rng):
  values = ["41 boats", "Lom", "the Keeper", "no", "ÄÖ"]
  for _ in range(200):
    wanted = tuple(values[i] for i in rng.permutation(5)[: rng.integers(1, 3)])
    output = " and ".join(values[i] for i in rng.integers(5, size=rng.integers(4)))
    output = [output, output.upper(), f"It was {output}."][rng.integers(3)]
    question = Question("", "", wanted, ("contains_any",), 32)
    score = RulerQA().score(output, question)
    assert 100 * score["contains_any"] == ruler_string_match_part(output, wanted)
  question = Question("", "", ("Lom",), ("contains_any",), 32)
  assert RulerQA().score("<think>Lom?</think>Rome", question) == {"contains_any": 0.0}
  assert RulerQA().extract(" In  **Lom**\n") == "in **lom**"


# What is refused.


def changed(path, change):
  value = json.loads(path.read_text(encoding="utf-8"))
  change(value)
  path.write_text(json.dumps(value), encoding="utf-8")
  return str(path)


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda v: v.pop("data"), r"q\.json: must hold an object whose field 'data' is a list"),
    (lambda v: v["data"].clear(), r"q\.json: holds no records"),
    (lambda v: v["data"][2].pop("paragraphs"), r"q\.json: item 3: it has no field 'paragraphs'"),
    (
      lambda v: v["data"][1]["paragraphs"][0].pop("context"),
      r"item 2: an item of field 'paragraphs' has no field 'context'",
    ),
    (
      lambda v: v["data"][1]["paragraphs"][0]["qas"][0].pop("question"),
      r"item 2: an item of an item of field 'paragraphs.qas' has no field 'question'",
    ),
    (
      lambda v: v["data"][0]["paragraphs"][0]["qas"][0]["answers"][1].update(text=" "),
      r"item 1: .*'paragraphs.qas.answers.text' must be text that is not empty, not \" \"",
    ),
    (
      lambda v: v["data"][0]["paragraphs"][0]["qas"][0].update(answers=[]),
      r"item 1: the question 'How many .*' has no item in field 'answers'",
    ),
  ],
)
def test_what_is_wrong_in_a_file_of_squad_is_named(tmp_path, change, message):
  source = changed(benchmark_files.squad(tmp_path / "q.json"), change)
  with pytest.raises(UserError, match=message):
    RulerQA("squad", source).check(4096, True)


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda v: v[4].pop("answer"), r"q\.json: item 5: it has no field 'answer'"),
    (lambda v: v[0].update(supporting_facts=[]), "item 1: field 'supporting_facts' must be a list"),
    (
      lambda v: v[0].update(supporting_facts=[["Sea", 0]]),
      "item 1: field 'supporting_facts' names 'Sea', which is no title in field 'context'",
    ),
    (
      lambda v: v[1]["context"].append(["Sea", "waves"]),
      r"item 2: an item of field 'context' must be \[title, \[sentences\]\]",
    ),
    (
      lambda v: v[1].update(supporting_facts=["Boat 1"]),
      r"item 2: an item of field 'supporting_facts' must be \[title, number of the sentence\]",
    ),
  ],
)
def test_what_is_wrong_in_a_file_of_hotpotqa_is_named(tmp_path, change, message):
  source = changed(benchmark_files.hotpotqa(tmp_path / "q.json"), change)
  with pytest.raises(UserError, match=message):
    RulerQA("hotpotqa", source).check(4096, True)


@pytest.mark.parametrize(
  "options, length, in_tokens, message",
  [
    ({}, 9, False, r"give source=PATH, the file dev-v2\.0\.json of dataset=squad"),
    ({"source": "absent.json"}, 9, False, r"absent\.json: no such file"),
    ({"source": "{}"}, 31, False, "has only 30 different paragraphs; shorten it"),
    ({"source": "{}"}, 10**6, True, "has only 30 different paragraphs; shorten it"),
    ({"source": "{}"}, 20, True, "20 tokens do not hold the paragraphs"),
    ({"source": "{}", "dataset": "hotpotqa"}, 9, False, "must hold a list of records"),
  ],
)
def test_what_cannot_be_is_one_line(tmp_path, options, length, in_tokens, message):
  path = str(benchmark_files.squad(tmp_path / "q.json"))
  options = {name: text.replace("{}", path) for name, text in options.items()}
  with pytest.raises(UserError, match=message):
    RulerQA(**options).check(length, in_tokens)


def test_an_unknown_dataset_is_refused():
  with pytest.raises(UserError, match="dataset='nq': choose one of squad, hotpotqa"):
    RulerQA("nq")


def test_a_file_that_is_used_up_says_so(tmp_path, tokenizer):
  task = RulerQA("squad", str(benchmark_files.squad(tmp_path / "q.json")))
  whole = task.at(0, 30, tokenizer, False).num_tokens
  assert len(paragraphs_of(task.at(0, whole, tokenizer, True))) == 30
  with pytest.raises(UserError, match="30 different paragraphs"):
    task.at(0, whole + 600, tokenizer, True)
