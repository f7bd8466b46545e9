"""The needles against readers that know nothing but the text, and RULER's published score."""

import itertools
import json
import os
import re
import time

import numpy as np
import pytest

from tests.no_skill_solvers import read_statements
from tttjax.embedded.vocabulary import build_tokenizer
from tttjax.errors import UserError
from tttjax.tasks.example import Question
from tttjax.tasks.synthetic.needles import Needles, sources

TASKS = [
  Needles("single"),
  Needles("single", haystack="noise"),
  Needles("single", haystack="needles"),
  Needles("multikey"),
  Needles("multikey", haystack="needles", values="uuids"),
  Needles("multivalue", answers=3),
  Needles("multivalue", answers=2, haystack="needles"),
  Needles("multiquery", needles=3),
  Needles("multiquery", needles=3, answers=2, haystack="noise", values="uuids"),
  Needles("tracking", answers=5),
  Needles("tracking", haystack="noise"),
  Needles("kv"),
]
every_task = pytest.mark.parametrize(
  "task", TASKS, ids=lambda task: f"{task.kind}-{task.haystack}-{task.values}"
)


@pytest.fixture(scope="module")
def tokenizer():
  return build_tokenizer()


def lines_of(example):
  return example.context.split("[CONTEXT]\n")[1].splitlines()


def read(question, lines):
  """The answer that somebody finds who looks for the names in the question."""
  found = []
  if key := re.search(r'key "(\S+)"', question):
    pairs = {k: v for line in lines for k, v in json.loads(line).items()}
    return [pairs[key[1]]] if key[1] in pairs else []
  if number := re.search(r"have the value (\d{5})\?", question):
    known = {number[1]}
    for line in lines:
      match = re.fullmatch(r"VAR (\w+) = (?:VAR )?(\w+)", line)
      if match and match[2] in known:
        known.add(match[1])
        found.append(match[1])
    return found
  keys = re.findall(r"[a-z]+-[a-z]+", question)
  for key in keys:
    for line in lines:
      match = re.fullmatch(rf"(?:The|One) magic (?:number|code) for {key} is (\S+)\.", line)
      found += [match[1]] if match else []
  return found


@every_task
def test_a_reader_who_looks_for_the_asked_names_finds_the_reference(task, tokenizer):
  for seed in range(8):
    example = task.at(seed, 40, tokenizer, False)
    assert len(example.questions) == task.most_questions
    assert len({q.text for q in example.questions}) == task.most_questions
    for question in example.questions:
      assert question.references == (", ".join(read(question.text, lines_of(example))),)
      assert question.metrics[0] == "recall"


@every_task
def test_evidence_is_the_sentences_that_state_the_values(task, tokenizer):
  example = task.at(3, 40, tokenizer, False)
  ids = tokenizer(example.context, add_special_tokens=False)["input_ids"]
  for question in example.questions:
    stated = {value: line for line, _, value in read_statements(lines_of(example))}
    wanted = [stated[value] for value in question.references[0].split(", ")]
    shown = [tokenizer.decode(ids[start:end]) for start, end in question.evidence]
    assert "\n".join(shown).splitlines() == sorted(wanted, key=lines_of(example).index)
    assert list(question.evidence) == sorted(question.evidence)


@every_task
def test_the_same_needles_stand_in_a_growing_text(task, tokenizer):
  for seed in range(4):
    texts = [task.at(seed, length, tokenizer, False) for length in (24, 25, 60, 200)]
    for short, long in itertools.pairwise(texts):
      assert [(q.text, q.references) for q in short.questions] == [
        (q.text, q.references) for q in long.questions
      ]
      rest = iter(lines_of(long))
      assert all(line in rest for line in lines_of(short))  # in order


@every_task
def test_the_share_of_the_haystack_in_front_of_a_needle_is_the_same_at_every_length(
  task, tokenizer
):
  drawn = task.kind == "multivalue" and task.haystack == "needles"  # else places are even
  for seed in range(4):
    shares = []
    for length in (124, 624):
      example = task.at(seed, length, tokenizer, False)
      lines = lines_of(example)
      mine = {
        line
        for line, _, value in read_statements(lines)
        if any(value in q.references[0] for q in example.questions)
      }
      hay = np.cumsum([line not in mine for line in lines])
      shares.append([hay[i] / hay[-1] for i, line in enumerate(lines) if line in mine])
    np.testing.assert_allclose(*shares, atol=0.1 if drawn else 0.02)


@pytest.mark.parametrize("depth", [0, 0.25, 0.7, 1])
@pytest.mark.parametrize("kind", ["multikey", "tracking", "multivalue", "kv"])
def test_answers_stand_at_the_asked_depth(kind, depth, tokenizer):
  task = Needles(kind, depth=depth)
  for seed in range(4):
    example = task.at(seed, 200, tokenizer, False)
    lines = lines_of(example)
    where = [
      i
      for i, line in enumerate(lines)
      if any(
        value in line and not line.endswith(f"VAR {value}")
        for q in example.questions
        for value in q.references[0].split(", ")
      )
    ]
    assert where == list(range(where[0], where[0] + len(where)))  # side by side
    assert where[0] / (len(lines) - len(where)) == pytest.approx(depth, abs=0.02)


@every_task
@pytest.mark.parametrize("length", [2200, 4096])
def test_the_next_sentence_would_not_fit(task, length, tokenizer):
  example = task.at(1, length, tokenizer, True)
  ids = tokenizer(example.context, add_special_tokens=False)["input_ids"]
  assert len(ids) == example.num_tokens <= length
  assert list(example.line_starts) == sorted(set(example.line_starts))
  ends = [*example.line_starts[1:], len(ids)]
  spans = zip(example.line_starts, ends)
  assert "".join(tokenizer.decode(ids[a:b]) for a, b in spans).splitlines() == lines_of(example)
  with_one_more = task.at(1, len(lines_of(example)) + 1, tokenizer, False)
  assert with_one_more.num_tokens > length


@every_task
def test_examples_follow_from_their_seed(task, tokenizer):
  assert task.at(5, 40, tokenizer, False) == task.at(5, 40, tokenizer, False)
  one, other = (task.at(seed, 40, tokenizer, False) for seed in (5, 6))
  assert one.key != other.key and one.questions[0].references != other.questions[0].references


# Scores.


def ruler_string_match_all(prediction, references):
  """RULER's score of one prediction, 0 to 100, from its definition."""
  found = [1.0 if reference.lower() in prediction.lower() else 0.0 for reference in references]
  return 100 * sum(found) / len(found)


def test_recall_is_the_score_of_ruler(rng):
  values = [str(n) for n in rng.integers(10**6, 10**7, 6)] + ["aB3d-EF", "KD47"]
  for _ in range(400):
    wanted = [values[i] for i in rng.permutation(8)[: rng.integers(1, 5)]]
    said = [values[i] for i in rng.integers(8, size=rng.integers(6))]
    output = rng.choice(["The answer is {}.", "{}", "I see {}", "{}9"]).replace(
      "{}", rng.choice([", ", " ", " and ", "\n", ""]).join(said)
    )
    output = [output.lower(), output.upper(), output][rng.integers(3)]
    question = Question("", "", (", ".join(wanted),), ("recall", "all"), 32)
    score = Needles().score(output, question)
    assert 100 * score["recall"] == pytest.approx(ruler_string_match_all(output, wanted))
    assert score["all"] == (score["recall"] == 1)


def test_thoughts_are_not_scored():
  question = Question("", "", ("1234567",), ("recall", "all"), 32)
  assert Needles().score("<think>\n1234567?\n</think>\n\n7654321", question)["recall"] == 0
  assert Needles().score("I think of 7654321</think>1234567", question)["recall"] == 1


@pytest.mark.parametrize(
  "kind, output, answer",
  [
    ("multikey", "It is **1234567**.", "1234567"),
    ("multikey", "12345678 or 123456", None),
    ("multivalue", "7654321, 1234567 and 7654321", "1234567, 7654321"),
    ("tracking", "VAR kd47, BX02", "BX02, KD47"),
    ("tracking", "Final: none", None),
    (
      "kv",
      '"0B4E1D0A-54a2-4214-8bba-05abbd013914"',
      "0b4e1d0a-54a2-4214-8bba-05abbd013914",
    ),
  ],
)
def test_equal_answers_are_equal_texts(kind, output, answer):
  assert Needles(kind).extract(output) == answer


@every_task
def test_the_longest_answer_holds_the_reference_in_tokens_of_one_character(task, tokenizer):
  for question in task.at(0, 40, tokenizer, False).questions:
    assert len(question.references[0].encode()) + 20 < question.max_new_tokens
    assert question.max_new_tokens == task.answer_tokens


@every_task
def test_chance_is_the_score_of_values_that_are_drawn_from_the_text(task, tokenizer, rng):
  for question in (example := task.at(2, 40, tokenizer, False)).questions:
    values = [value for _, _, value in read_statements(lines_of(example))]
    wanted = question.references[0].split(", ")
    scores = [task.score(value, question)["recall"] for value in values]
    # The expected share of k values drawn without repetition is k times that of one.
    assert question.chance == pytest.approx(len(wanted) * np.mean(scores))


# The answer left out.


@pytest.mark.parametrize(
  "kind", ["single", "multikey", "multivalue", "multiquery", "tracking", "kv"]
)
def test_without_the_answer_the_text_is_the_same_and_tells_nothing_of_it(kind, tokenizer):
  task, control = Needles(kind), Needles(kind, absent=True)
  for seed in range(6):
    for length, in_tokens in ((40, False), (3000, True)):
      whole = task.at(seed, length, tokenizer, in_tokens)
      example = control.at(seed, length, tokenizer, in_tokens)
      (question,) = example.questions
      assert (question.text, question.references) == (
        whole.questions[0].text,
        whole.questions[0].references,
      )
      values = question.references[0].split(", ")
      held = {line for line, _, value in read_statements(lines_of(whole)) if value in values}
      assert lines_of(example) == [line for line in lines_of(whole) if line not in held]
      assert read(question.text, lines_of(example)) == []
      assert task.score(example.context, question)["recall"] == 0
      assert question.evidence is None and 0 < question.chance < 1e-4


# Sources.


def test_prose_is_whole_sentences_without_code_and_markup():
  text = (
    "A heading\n=========\n\nThe first sentence is here, and it\nends on this line. The second is\n"
    "split at a hyphen-\nated word! x = 5 is code. Is this one?  It calls f(x).\n\n"
    "* A point of a list.\n\n   >>> print(1)\n   One more [link](a).\n\nHalf a sentence, e.g. this"
    "\n\nThe magic number for blue-fox is 1234567. VAR AB12 = 1.\n\nThe end <|im_end|> is here."
  )
  assert sources.split(text) == [
    "The first sentence is here, and it ends on this line.",
    "The second is split at a hyphen-ated word!",
    "A point of a list.",
  ]


def test_the_shipped_prose_is_long_enough_for_16000_tokens():
  prose = sources.sentences("")
  assert len(prose) == len(set(prose)) > 500 and sum(map(len, prose)) > 5 * 16000
  assert not any(re.search(r"[\n*`_<>={}]|\d{5}", sentence) for sentence in prose)


@pytest.fixture
def book(tmp_path):
  folder = tmp_path / "book"
  (folder / "part").mkdir(parents=True)
  (folder / "one.txt").write_text("".join(f"Sheep {i} jumps a fence.\n" for i in range(30)))
  (folder / "part" / "two.md").write_text("".join(f"Goat {i} climbs a hill.\n" for i in range(30)))
  (folder / "notes.json").write_bytes(b"\xff\xfe")  # not read
  return folder


def test_a_file_or_a_folder_gives_the_prose(book, tokenizer):
  of_folder = lines_of(Needles(source=str(book)).at(0, 64, tokenizer, False))
  assert sum("Sheep" in line for line in of_folder) == 30
  assert sum("Goat" in line for line in of_folder) == 30
  of_file = lines_of(Needles(source=str(book / "one.txt")).at(0, 34, tokenizer, False))
  assert sum("Sheep" in line for line in of_file) == 30


@pytest.mark.parametrize(
  "content, length, in_tokens, message",
  [
    (None, 40, False, "no such file or folder"),
    (b"Sheep jump.\n\xff\xfe", 40, False, r"not UTF-8 text \(byte 12\)"),
    (b"", 40, False, "no sentence of prose"),
    (b"x = 1\n", 40, False, "no sentence of prose"),
    (b"Sheep jump a fence.\n" * 99, 40, False, "only 1 different sentences; name a larger source"),
    (b"Sheep jump a fence.\n" * 99, 4096, True, "only 1 different sentences; name a larger source"),
  ],
)
def test_a_source_that_cannot_be_used_is_said_before_a_model_is_loaded(
  content, length, in_tokens, message, tmp_path
):
  path = tmp_path / "text.txt"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=message) as error:
    Needles(source=str(path)).check(length, in_tokens)
  assert "\n" not in str(error.value) and "needles(" in str(error.value)


def test_a_source_that_is_too_short_in_this_tokenizer_is_refused(book, tokenizer):
  task = Needles(source=str(book), haystack="prose")
  task.check(1660, True)
  with pytest.raises(UserError, match="only 60 different sentences; name a larger source"):
    task.at(0, 1660, tokenizer, True)


@pytest.mark.parametrize(
  "source, message",
  [
    ("~nobody-at-all/x", "source=~nobody-at-all/x: no such user"),
    ("/" + 300 * "a", "no such file or folder"),
    ("/dev/zero", "no such file or folder"),
  ],
)
def test_a_source_that_is_no_path_to_a_text_is_refused(source, message):
  with pytest.raises(UserError, match=message):
    Needles(source=source).check(40, False)


def test_a_pipe_beside_the_texts_is_left_out(book):
  plain = sources.sentences(str(book))
  os.mkfifo(book / "pipe.txt")
  sources._load.cache_clear()
  assert sources.sentences(str(book)) == plain
  (book / "pipe.txt").unlink()


def test_a_folder_without_texts_is_refused(tmp_path):
  with pytest.raises(UserError, match=r"the folder has no \.txt, \.md, \.rst file"):
    Needles(source=str(tmp_path)).check(40, False)


@pytest.mark.parametrize(
  "options, message",
  [
    (dict(kind="qa"), "kind='qa': choose one of single, multikey"),
    (dict(values="words"), "choose one of numbers, uuids"),
    (dict(haystack="hay"), "choose one of prose, noise, needles"),
    (dict(needles=0), "choose 1 to 64"),
    (dict(depth=1.5), "choose 0 to 1, or -1"),
    (dict(kind="tracking", answers=1), "choose 2 to 16"),
    (dict(kind="single", needles=2), "leave needles out: a text has one"),
    (dict(kind="multikey", answers=2), "leave answers out: a question has one answer"),
    (dict(kind="tracking", values="uuids"), "leave values out"),
    (dict(kind="kv", values="uuids"), "leave values out"),
    (dict(kind="kv", haystack="noise"), "leave haystack out"),
    (dict(haystack="noise", source="a.txt"), "leave source out"),
    (dict(kind="tracking", haystack="needles"), "choose prose or noise"),
  ],
)
def test_options_that_mean_nothing_are_refused(options, message):
  with pytest.raises(UserError, match=message):
    Needles(**options)


@pytest.mark.parametrize("in_tokens, least", [(False, 16), (True, 100)])
def test_a_length_without_room_for_the_needles_is_refused(in_tokens, least, tokenizer):
  task = Needles("multivalue")
  with pytest.raises(UserError, match="raise it to"):
    task.check(least - 1, in_tokens)
  if not in_tokens:
    assert len(lines_of(task.at(0, least, tokenizer, False))) == 16
  else:
    with pytest.raises(UserError, match="tokens do not hold the needles"):
      task.at(0, 300, tokenizer, True)


def test_distractors_end_where_the_words_do(tokenizer):
  with pytest.raises(UserError, match="different sentences; shorten it"):
    Needles(haystack="needles").at(0, 19_000, tokenizer, False)


@every_task
def test_an_example_of_4096_tokens_takes_a_moment(task, tokenizer):
  task.at(0, 4096, tokenizer, True)  # reads the source
  times = []
  for seed in range(3):
    start = time.process_time()
    task.at(seed, 4096, tokenizer, True)
    times.append(time.process_time() - start)
  assert min(times) < 0.3
