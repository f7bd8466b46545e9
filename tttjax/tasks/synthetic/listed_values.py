"""Answers that list values, and RULER's score of them."""

from tttjax.tasks.cleaned_output import clean
from tttjax.tasks.example import Question

SEPARATOR = ", "  # between the values of one reference


def shares(text: str, question: Question) -> dict[str, float]:
  """'recall': the share of the reference's values that stand in the output; 'all': all do.

  This is RULER's string_match_all for one output: a value counts wherever it occurs, upper or
  lower case, even within a longer one, and whatever is said beside it. Thoughts are not read.
  """
  shown = clean(text).lower()
  found = [
    [value.lower() in shown for value in reference.split(SEPARATOR)]
    for reference in question.references
  ]
  scores = {
    "recall": max(sum(own) / len(own) for own in found),
    "all": max(map(all, found)),
  }
  return {name: float(scores[name]) for name in question.metrics}
