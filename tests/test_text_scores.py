"""Scores of benchmarks against other implementations of their published rules, on odd strings."""

import math
import re
import string

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from rouge_score import rouge_scorer
from scipy import stats
from torchmetrics.functional.text import squad
from unidecode import unidecode

from tttjax.tasks.benchmarks import text_scores

# What scorers stumble over: punctuation, articles, signs of other scripts, line breaks.
_PIECES = st.sampled_from(
  ["the", "a", "An", "cat", "Cat.", "41%", "3.5 %", "7.%", "A", "(B)", "D)", "é", "漢字", "İ", "ß"]
  + ["“x”", "’s", "\n", "\t", " ", "", "-", "1,", "2", "3", "10", "\u00a0", "½", "don't", "a.b"]
)
TEXT = st.one_of(st.text(max_size=30), st.lists(_PIECES, max_size=12).map(" ".join))
REFERENCES = st.lists(TEXT, min_size=1, max_size=3)


ASCII = TEXT.map(lambda text: text.encode("ascii", "ignore").decode())


@settings(max_examples=500, deadline=None)
@given(ASCII, st.lists(ASCII, min_size=1, max_size=3))
def test_f1_is_squads(text, references):
  """Of ASCII: SQuAD's own rules leave other characters as they are."""
  target = {"answers": {"answer_start": [0], "text": references}, "id": "1"}
  expected = squad([{"prediction_text": text, "id": "1"}], [target])
  if text_scores.normalized(text):  # of two empty answers SQuAD 2 says 1, ZeroSCROLLS 0
    assert 100 * text_scores.f1(text, references) == pytest.approx(float(expected["f1"]), abs=1e-4)


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_normalised_text_is_the_ascii_of_what_squad_leaves(text):
  bare = "".join(c for c in text.lower() if c not in string.punctuation)
  words = re.sub(r"\b(a|an|the)\b", " ", bare).split()
  assert text_scores.normalized(text) == unidecode(" ".join(words))


@pytest.mark.parametrize(
  "text, reference, score",
  [("", "", 0.0), ("the", "a", 0.0), ("Zürich", "zurich", 1.0), ("naïve café", "cafe", 2 / 3)],
)
def test_f1_of_empty_answers_and_accents(text, reference, score):
  assert text_scores.f1(text, [reference]) == pytest.approx(score)


@settings(max_examples=100, deadline=None)
@given(TEXT, REFERENCES)
def test_rouge_is_the_best_reference_of_each_type(text, references):
  scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
  scores = text_scores.rouge(text, references)
  best = scorer.score_multi(references, text)
  for name in text_scores.ROUGE:
    every = [scorer.score(reference, text)[name].fmeasure for reference in references]
    assert scores[name] == max(every) and best[name].fmeasure <= scores[name] + 1e-12


@settings(max_examples=300, deadline=None)
@given(
  st.permutations(range(1, 9)), st.permutations(range(1, 9)), st.sampled_from([", ", " ", ","])
)
def test_concordance_is_kendalls_tau(order, reference, separator):
  tau = stats.kendalltau(
    [order.index(i) for i in range(1, 9)], [reference.index(i) for i in range(1, 9)]
  ).statistic
  text, wanted = (separator.join(map(str, numbers)) for numbers in (order, reference))
  assert text_scores.concordance(f"Order: {text}.", [wanted]) == pytest.approx((tau + 1) / 2)


@pytest.mark.parametrize(
  "text, reference, score",
  [
    ("2, 1", "2, 1", 1.0),
    ("1, 2", "2, 1", 0.0),
    ("1, 2, 3", "2, 1", 0.0),
    ("1, 1", "1, 2", 0.0),
    ("", "1, 2", 0.0),
    ("no numbers", "1, 2", 0.0),
    ("1", "1", 1.0),
    ("1. 2", "1, 2", 1.0),
    ("12", "1, 2", 0.0),
    ("01, 2, 000", "0, 1, 2", 1 / 3),
    ("9" * 5000, "1, 2", 0.0),
    (f"2, {'9' * 5000}", f"2, 0{'9' * 5000}", 1.0),
  ],
)
def test_what_is_no_permutation_has_no_concordance(text, reference, score):
  assert text_scores.concordance(text, [reference]) == score


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100), st.integers(0, 1000).map(lambda n: n / 10))
def test_exponential_similarity_halves_with_ten_points(stated, right):
  score = text_scores.exponential_similarity(f"About {stated}% of them, not 3%.", [f"{right}%"])
  assert score == pytest.approx(math.exp(-math.log(2) * abs(stated - right) / 10))


@pytest.mark.parametrize(
  "text, score",
  [
    *[("41%", 1.0), ("41.0%", 1.0), ("41 %", 0.0), ("forty", 0.0), ("", 0.0), ("41.%", 1.0)],
    ("9" * 5000 + "%", 0.0),
  ],
)
def test_a_share_is_the_first_percentage(text, score):
  assert text_scores.exponential_similarity(text, ["41%"]) == score
  assert text_scores.exponential_similarity(text, [text]) in (1.0, 0.0)


@pytest.mark.parametrize(
  "text, chosen",
  [
    ("(B) nets", "B"),
    ("Answer: C", "C"),
    ("A boat, so B", "A"),
    ("BC", None),
    ("b", None),
    ("E", None),
    ("", None),
  ],
)
def test_a_letter_is_the_first_that_stands_alone(text, chosen):
  assert text_scores.first_letter(text) == chosen
  assert text_scores.letter(text, ["(B) nets"]) == float(chosen == "B")


@settings(max_examples=300, deadline=None)
@given(TEXT, REFERENCES)
def test_every_score_is_a_share(text, references):
  for score in (
    text_scores.f1,
    text_scores.letter,
    text_scores.exponential_similarity,
    text_scores.concordance,
  ):
    assert 0 <= score(text, references) <= 1
