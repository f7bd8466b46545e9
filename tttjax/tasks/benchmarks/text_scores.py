"""Scores of one output against its references, 0 to 1, as the benchmarks publish them.

Each takes the best of several references, as ZeroSCROLLS does (Shaham et al., 2023), whose
normalisation and F1 are SQuAD's (Rajpurkar et al., 2016) in ASCII.
"""

from collections import Counter
from collections.abc import Callable, Sequence
import functools
import re
import string

from tttjax.errors import UserError

ROUGE = ("rouge1", "rouge2", "rougeL")

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PERCENTAGE = re.compile(r"(\d+\.?\d*)%")
_LETTER = re.compile(r"\b[A-D]\b")


def normalized(text: str) -> str:
  """Lower case, no punctuation, no articles, single spaces, and then in ASCII.

  Raises:
    UserError: the package unidecode is not installed.
  """
  bare = _ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION))
  return _to_ascii()(" ".join(bare.split()))


def f1(text: str, references: Sequence[str]) -> float:
  """F1 of the words that the output shares with a reference."""
  return max(f1_of_words(normalized(text).split(), normalized(one).split()) for one in references)


def letter(text: str, references: Sequence[str]) -> float:
  """Whether the first of the letters A to D that stands alone is the one of a reference."""
  chosen = first_letter(text)
  return float(chosen is not None and chosen in map(first_letter, references))


def first_letter(text: str) -> str | None:
  """The first of the letters A to D that stands alone."""
  found = _LETTER.search(text)
  return found and found[0]


def rouge(text: str, references: Sequence[str], tokenizer=None) -> dict[str, float]:
  """ROUGE-1, -2 and -L F-measures without stemming, each of its best reference.

  Args:
    tokenizer: has `tokenize(text)`; by default the package's own, for English.

  Raises:
    UserError: the package rouge-score is not installed.
  """
  scores = [_rouge_scorer(tokenizer).score(reference, text) for reference in references]
  return {name: max(score[name].fmeasure for score in scores) for name in ROUGE}


def exponential_similarity(text: str, references: Sequence[str]) -> float:
  """0.5^(d / 10) of the first percentages' distance d in points; 0 for an output without one.

  A reference without one counts as 0 %.
  """
  stated = _percentage(text)
  if stated is None:
    return 0.0
  return max(_halved(_percentage(one) or 0.0, stated) for one in references)


def concordance(text: str, references: Sequence[str]) -> float:
  """Share of the pairs of numbers that stand in the reference's order; 0 for other numbers."""
  return max(_concordance(_numbers(text), _numbers(one)) for one in references)


def f1_of_words(words: Sequence[str], reference: Sequence[str]) -> float:
  """Harmonic mean of precision and recall, each word as often as it stands there."""
  shared = sum((Counter(words) & Counter(reference)).values())
  if not shared:
    return 0.0
  precision, recall = shared / len(words), shared / len(reference)
  return 2 * precision * recall / (precision + recall)


def _halved(right: float, stated: float) -> float:
  # What has too many digits for a float is infinite, and has no distance from the same.
  return 1.0 if right == stated else 0.5 ** (abs(right - stated) / 10)


def _percentage(text: str) -> float | None:
  found = _PERCENTAGE.search(text)
  return float(found[1]) if found else None


def _numbers(text: str) -> list[str]:
  """What is left as numbers where everything but digits, commas and spaces is taken out.

  As digits without leading zeros: there may be more of them than an int is read from.
  """
  parts = re.sub(r"[^0-9\s,]", "", text).replace(",", " ").split()
  return [part.lstrip("0") or "0" for part in parts]


def _concordance(order: Sequence[str], reference: Sequence[str]) -> float:
  if not reference or sorted(order) != sorted(reference):
    return 0.0
  place = {number: i for i, number in enumerate(order)}
  pairs = [
    place[first] < place[second]
    for i, first in enumerate(reference)
    for second in reference[i + 1 :]
  ]
  return sum(pairs) / len(pairs) if pairs else 1.0


@functools.cache
def _to_ascii() -> Callable[[str], str]:
  try:
    from unidecode import unidecode  # an extra
  except ImportError:
    raise UserError(_missing("unidecode")) from None
  return unidecode


@functools.cache
def _rouge_scorer(tokenizer):
  try:
    from rouge_score import rouge_scorer  # an extra, and slow to import
  except ImportError:
    raise UserError(_missing("rouge-score")) from None
  return rouge_scorer.RougeScorer(list(ROUGE), use_stemmer=False, tokenizer=tokenizer)


def check_installed(metrics: Sequence[str]) -> None:
  """Raises UserError where a package that one of these scores needs is not installed."""
  if set(metrics) & {*ROUGE}:
    _rouge_scorer(None)
  if "f1" in metrics:
    _to_ascii()


def _missing(package: str) -> str:
  return (
    f"this score needs the package {package}, which is not installed; run"
    " pip install 'tttjax[benchmarks]'"
  )
