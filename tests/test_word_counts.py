"""Words to be counted, against who counts them, and against drawing them without counting."""

import collections
import itertools
import re

import numpy as np
import pytest
from scipy import special, stats

from tests import smollm2
from tttjax.checkpoint.tokenizers import load_tokenizer
from tttjax.embedded.vocabulary import build_tokenizer
from tttjax.errors import UserError
from tttjax.tasks.synthetic.word_counts import CommonWords, FrequentWords
from tttjax.tasks.synthetic.word_counts.first_words import share_of_first
from tttjax.tasks.synthetic.word_counts.syllables import MOST_WORDS, made_words, words_in

TASKS = [
  CommonWords(),
  CommonWords(words=1),
  CommonWords(words=4, often=12, rarely=5),
  FrequentWords(),
  FrequentWords(alpha=1.3),
  FrequentWords(alpha=3.5),
]
every_task = pytest.mark.parametrize(
  "task", TASKS, ids=lambda task: "-".join(map(str, vars(task).values()))
)


@pytest.fixture(scope="module")
def tokenizer():
  return build_tokenizer()


def words_of(example):
  """The words of a text in order, dots too, without the numbers of a list."""
  return re.findall(r"[a-z]+|\.\.\.", example.context.split("[CONTEXT]\n")[1])


def answer(example):
  return example.questions[0].references[0].split(", ")


@every_task
def test_who_counts_finds_the_reference(task, tokenizer):
  for seed, more in itertools.product(range(4), (0, 1, 2, 7, 100, 1000)):
    example = task.at(seed, task.fewest + more, tokenizer, False)
    words = words_of(example)
    assert len(words) == task.fewest + more
    ranked = collections.Counter(word for word in words if word != "...").most_common()
    ranked.append(("", 0))
    assert {word for word, _ in ranked[: task.answers]} == set(answer(example))
    assert ranked[task.answers - 1][1] > ranked[task.answers][1]


def test_common_words_occur_as_often_as_asked(tokenizer):
  words = collections.Counter(words_of(CommonWords().at(1, 901, tokenizer, False)))
  assert collections.Counter(words.values()) == {30: 10, 3: 200, 1: 1}


def test_a_list_is_numbered(tokenizer):
  lines = CommonWords().at(1, 400, tokenizer, False).context.split("[CONTEXT]\n")[1].splitlines()
  assert [re.fullmatch(r"(\d+)\. [a-z]{6}", line)[1] for line in lines] == [
    str(number) for number in range(1, 401)
  ]


@pytest.mark.parametrize("alpha", [1.3, 2.0, 3.5])
def test_frequencies_follow_a_zeta_distribution(alpha, tokenizer):
  example = FrequentWords(alpha).at(1, 20_000, tokenizer, False)
  ranked = [count for _, count in collections.Counter(words_of(example)).most_common()]
  scale = ranked[0]  # the frequencies are those of a distribution that is cut where counts are 0
  np.testing.assert_allclose(ranked, scale / np.arange(1, len(ranked) + 1) ** alpha, atol=1)
  if alpha >= 2:
    assert scale / 20_000 == pytest.approx(1 / special.zeta(alpha), rel=0.01)


@every_task
def test_the_answer_is_the_same_in_a_text_that_grows_around_its_words(task, tokenizer):
  for seed in range(3):
    texts = [task.at(seed, task.fewest + more, tokenizer, False) for more in (0, 1, 60, 500)]
    for short, long in itertools.pairwise(texts):
      assert short.questions[0].references == long.questions[0].references
      assert short.questions[0].text == long.questions[0].text
      rest = iter(words_of(long))
      assert all(word in rest for word in words_of(short))  # in order


@every_task
def test_the_next_word_would_not_fit(task, tokenizer):
  example = task.at(1, 8000, tokenizer, True)
  ids = tokenizer(example.context, add_special_tokens=False)["input_ids"]
  assert len(ids) == example.num_tokens <= 8000
  assert task.at(1, len(words_of(example)) + 1, tokenizer, False).num_tokens > 8000
  ends = [*example.line_starts[1:], len(ids)]
  lines = [tokenizer.decode(ids[a:b]) for a, b in zip(example.line_starts, ends)]
  assert "".join(lines) == example.context.split("[CONTEXT]\n")[1]


@pytest.mark.parametrize("length", [1024, 2048])
def test_dots_may_be_one_token_each(length):
  """As in SmolLM2's vocabulary: then more than half as many words as tokens fit."""
  smollm2.skip_without()
  tokenizer = load_tokenizer("smollm2")
  example = FrequentWords().at(1, length, tokenizer, True)
  words = example.context[example.header :].partition("[CONTEXT]")[2].split()
  assert length - 8 < example.num_tokens <= length and len(words) > length / 2


@every_task
def test_examples_follow_from_their_seed(task, tokenizer):
  assert task.at(5, 500, tokenizer, False) == task.at(5, 500, tokenizer, False)
  one, other = (task.at(seed, 500, tokenizer, False) for seed in (5, 6))
  assert one.key != other.key and not set(answer(one)) & set(answer(other))


def test_made_words_are_different_and_none_is_part_of_another(rng):
  words = made_words(rng, 5000)
  assert len(set(words)) == 5000 and {len(word) for word in words} == {6}
  assert made_words(np.random.default_rng(3), 9) == made_words(np.random.default_rng(3), 99)[:9]
  assert words_in(f"The words are **{words[0].upper()}**, {words[1]}.") == set(words[:2])


# Scores.


def test_recall_is_the_share_of_the_words_that_stand_in_the_output(tokenizer):
  example = CommonWords(words=4).at(0, 400, tokenizer, False)
  words, (question,) = answer(example), example.questions
  score = lambda text: CommonWords(words=4).score(text, question)
  assert score(f"{words[2].upper()} and {words[0]}") == {"recall": 0.5, "all": 0.0}
  assert score("; ".join(words[::-1])) == {"recall": 1.0, "all": 1.0}
  assert score(f"<think>{words[0]}</think>None") == {"recall": 0.0, "all": 0.0}
  assert len(question.references[0]) + 20 < question.max_new_tokens


@pytest.mark.parametrize(
  "common, often, others, rarely", [(10, 30, 60, 3), (4, 12, 5, 5), (1, 9, 7, 2)]
)
def test_chance_is_the_mean_of_a_known_distribution(common, often, others, rarely):
  """Of two frequencies it is Wallenius' distribution."""
  counts = [often] * common + [rarely] * others
  known = stats.nchypergeom_wallenius.mean(common + others, common, common, often / rarely)
  assert share_of_first(counts, common) == pytest.approx(known / common, abs=2e-3)


@every_task
def test_chance_is_the_score_of_the_first_words_in_a_random_order(task, tokenizer, rng):
  example = task.at(2, 500, tokenizer, False)
  words, scores = np.array([word for word in words_of(example) if word != "..."]), []
  for _ in range(2000):
    shown = list(dict.fromkeys(rng.permutation(words)))[: task.answers]
    scores.append(len(set(shown) & set(answer(example))) / task.answers)
  error = np.std(scores) / len(scores) ** 0.5
  assert example.questions[0].chance == pytest.approx(np.mean(scores), abs=4 * error + 1e-3)


# What is refused.


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: CommonWords(words=0), "common_words: words=0: choose 1 to 50"),
    (lambda: CommonWords(often=1), "common_words: often=1: choose 2 to 1000"),
    (lambda: CommonWords(rarely=30), "common_words: rarely=30: choose 1 to 29"),
    (lambda: FrequentWords(alpha=1.0), r"frequent_words: alpha=1.0: choose 1.1 to 4.0"),
    (lambda: CommonWords().check(302, False), "302 words do not hold .* raise it to 303 or more"),
    (lambda: CommonWords().check(600, True), "600 tokens do not hold .* common_words"),
    (lambda: FrequentWords().check(9, False), "9 words do not hold .* frequent_words"),
    (
      lambda: CommonWords(rarely=1).check(2 * MOST_WORDS, False),
      "common_words has only 110592 different words; shorten it",
    ),
  ],
)
def test_what_cannot_be_is_one_line(make, message):
  with pytest.raises(UserError, match=message):
    make()


def test_the_fewest_words_that_do_not_fit_say_so(tokenizer):
  with pytest.raises(UserError, match="1000 tokens do not hold .* raise it to 3[0-9]{3} or more"):
    CommonWords().at(0, 1000, tokenizer, True)
