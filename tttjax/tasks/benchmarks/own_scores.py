"""Scores of one output against its references, 0 to 1, for texts in any script.

SQuAD's rules (Rajpurkar et al., 2016) and what Unicode makes of them: full-width and curly forms
are plain ones, punctuation and symbols of all scripts go. Where words are not set apart by spaces
each character counts as one, as in MLQA and LongBench; Korean, whose particles stand at the word,
is read so too, as in KorQuAD. Each score takes the best of several references.
"""

from collections.abc import Iterator, Sequence
import re
import unicodedata

from tttjax.tasks.benchmarks import text_scores

# What has no spaces between words: Thai, Lao, Tibetan, Burmese and Khmer; marks, kana and bopomofo;
# Chinese characters; Korean, which has some.
UNSPACED = (
  "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"
  "\u3005-\u3007\u3040-\u312f\u31f0-\u31ff"
  "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
  "\uac00-\ud7a3"
)
_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_DASHES = "\u2014\u2015"  # stand between words; the other ones within
_VARIANTS = range(0xFE00, 0xFE10)  # how a sign is drawn


def f1(text: str, references: Sequence[str]) -> float:
  """F1 of the words that the output shares with a reference."""
  return max(text_scores.f1_of_words(*_alike(text, one)) for one in references)


def exact(text: str, references: Sequence[str]) -> float:
  """Whether the output is a reference, but for case, punctuation and articles."""
  return float(any(own == wanted for own, wanted in (_alike(text, one) for one in references)))


def contains(text: str, references: Sequence[str]) -> float:
  """Whether the words of a reference stand in the output, but for punctuation and articles."""
  return float(
    any(_stands_in(wanted, own) for own, wanted in (_alike(text, o) for o in references))
  )


def rouge(text: str, references: Sequence[str]) -> dict[str, float]:
  """ROUGE-1, -2 and -L F-measures of words without stemming, each of its best reference.

  Raises:
    UserError: the package rouge-score is not installed.
  """
  return text_scores.rouge(text, references, _WORDS)


class _Words:
  """Cuts text into words for ROUGE, whose own tokenizer knows the letters from a to z only."""

  def tokenize(self, text: str) -> list[str]:
    return _WORD.findall(_bare(_folded(text), " "))


_WORDS = _Words()


def _alike(text: str, reference: str) -> tuple[list[str], list[str]]:
  """Both in the shortest of their forms in which anything is left of the reference."""
  forms = list(zip(_forms(text), _forms(reference)))
  return next((pair for pair in forms if pair[1]), forms[-1])


def _forms(text: str) -> Iterator[list[str]]:
  """The words without articles, all words, and all characters: some answers are 'A', or '+'."""
  folded = _folded(text)
  bare = _bare(folded, "")
  yield _WORD.findall(_ARTICLE.sub(" ", bare))
  yield _WORD.findall(bare)
  yield [character for character in folded if not character.isspace()]


def _folded(text: str) -> str:
  """In one case and one of the ways in which Unicode writes the same."""
  return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _bare(folded: str, instead: str) -> str:
  """Without punctuation, symbols and what is not seen."""

  def kept(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Cf" or ord(character) in _VARIANTS:
      return ""
    if kind[0] in "PS":
      return " " if character in _DASHES else instead
    return character

  return "".join(map(kept, folded))


def _stands_in(words: Sequence[str], text: Sequence[str]) -> bool:
  """Whether the words stand in the text one after another."""
  return f" {' '.join(words)} " in f" {' '.join(text)} "
