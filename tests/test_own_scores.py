"""Scores of one's own answers: SQuAD's on ASCII, and what is right in other scripts."""

import builtins
import json

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from rouge_score import rouge_scorer
from torchmetrics.functional.text import squad

from tests.errors import user_error
from tests.test_text_scores import ASCII, REFERENCES, TEXT
from tttjax.tasks.benchmarks import own_scores, text_scores
from tttjax.tasks.benchmarks.own_documents import OwnDocuments


@settings(max_examples=500, deadline=None)
@given(ASCII, st.lists(ASCII, min_size=1, max_size=3))
def test_f1_and_exact_match_are_squads(text, references):
  """Where SQuAD leaves anything of the references: see the next test for those it does not."""
  references = [one for one in references if text_scores.normalized(one)]
  if not references:
    return
  target = {"answers": {"answer_start": [0], "text": references}, "id": "1"}
  expected = squad([{"prediction_text": text, "id": "1"}], [target])
  assert 100 * own_scores.exact(text, references) == expected["exact_match"]
  assert 100 * own_scores.f1(text, references) == pytest.approx(float(expected["f1"]), abs=1e-4)


@pytest.mark.parametrize(
  "text, reference, score",
  [
    ("", "the", 0.0),
    ("", "+", 0.0),
    ("a", "the", 0.0),
    ("the", "The.", 1.0),
    ("(A)", "A", 1.0),
    ("+", "+", 1.0),
    ("-", "+", 0.0),
    ("plus", "+", 0.0),
    ("👍", "👎", 0.0),
  ],
)
def test_a_reference_of_articles_or_signs_is_compared_as_it_stands(text, reference, score):
  for metric in (own_scores.exact, own_scores.contains, own_scores.f1):
    assert metric(text, [reference]) == score


@pytest.mark.parametrize(
  "text, reference",
  [
    ("“The keeper’s lantern”", '"the keeper\'s lantern"'),
    ("It's blue…", "It’s blue"),
    ("1990–1995", "1990-1995"),
    ("Ｆｕｌｌ　ｗｉｄｔｈ４１", "full width41"),
    ("STRASSE", "Straße"),
    ("Zu\u0308rich", "zürich"),
    ("«Москва»!", "москва"),
    ("东京，日本。", "东京日本"),
    ("東京 タワー", "東京タワー"),
    ("「東京」", "東京"),
    ("¿Dónde?", "dónde"),
    ("water\u200bmelon\ufeff", "watermelon"),
    ("नमस्ते।", "नमस्ते"),
  ],
)
def test_what_only_form_tells_apart_is_the_same(text, reference):
  for metric in (own_scores.exact, own_scores.contains, own_scores.f1):
    assert metric(text, [reference]) == metric(reference, [text]) == 1.0


@pytest.mark.parametrize(
  "text, reference, score",
  [
    ("答えは東京です。", "東京", 1.0),
    ("答えは京都です。", "東京", 0.0),
    ("答案是北京，不是上海。", "北京", 1.0),
    ("在iPhone上", "iphone", 1.0),
    ("답은 서울입니다.", "서울", 1.0),
    ("คำตอบคือกรุงเทพ", "กรุงเทพ", 1.0),
    ("It has 41 boats.", "41 boats", 1.0),
    ("It has 141 boats.", "41 boats", 0.0),
    ("It is blue—the lantern", "blue lantern", 1.0),
    ("It is bluer", "blue", 0.0),
    ("это москвач", "москва", 0.0),
    ("कीमत", "की", 0.0),
    ("2 + 2 = 4", "=", 1.0),
  ],
)
def test_a_reference_is_contained_as_words(text, reference, score):
  assert own_scores.contains(text, [reference]) == score


def test_f1_counts_characters_where_words_have_no_spaces():
  assert own_scores.f1("東京です", ["東京"]) == pytest.approx(2 / 3)
  assert own_scores.f1("北京市", ["北京"]) == pytest.approx(4 / 5)
  assert own_scores.f1("в Москве зимой", ["Москве"]) == pytest.approx(1 / 2)


PRINTED = ASCII.map(lambda text: "".join(c for c in text if c.isprintable() or c.isspace()))


@settings(max_examples=100, deadline=None)
@given(PRINTED, PRINTED)
def test_rouge_of_ascii_is_the_packages(text, reference):
  scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
  expected = {name: score.fmeasure for name, score in scorer.score(reference, text).items()}
  assert own_scores.rouge(text, [reference]) == pytest.approx(expected)


def test_rouge_reads_other_scripts():
  assert own_scores.rouge("船を数えた。", ["船を数えた"])["rougeL"] == 1.0
  assert own_scores.rouge("лодки и сети", ["лодки"])["rouge1"] == pytest.approx(1 / 2)


@settings(max_examples=300, deadline=None)
@given(TEXT, REFERENCES)
def test_every_score_is_a_share_and_an_answer_scores_itself(text, references):
  for metric in (own_scores.f1, own_scores.exact, own_scores.contains):
    assert 0 <= metric(text, references) <= 1
    assert metric(text, [text, *references]) == 1 or not text.strip()


def test_no_package_is_needed_but_for_rouge(monkeypatch, tmp_path):
  real = builtins.__import__

  def without(name, *args, **kwargs):
    if name.partition(".")[0] in ("unidecode", "rouge_score"):
      raise ImportError(name)
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, "__import__", without)
  for made in (text_scores._to_ascii, text_scores._rouge_scorer):
    made.cache_clear()
  line = {"id": 1, "context": "c", "question": "q", "answers": ["Zürich"]}
  path = tmp_path / "mine.json"
  for metric in ("f1", "exact", "contains"):
    path.write_text(json.dumps([line | {"metric": metric}]), encoding="utf-8")
    ((asked,),) = (document.questions for document in OwnDocuments().open(path).documents)
    assert OwnDocuments().score("zürich", asked) == {metric: 1.0}
  path.write_text(json.dumps([line | {"metric": "rouge"}]), encoding="utf-8")
  with user_error("the package rouge-score"):
    OwnDocuments().open(path)
