"""Which spans of a context are trained on. A new choice is a function and its line here.

Each is a function (case, ttt, key) -> int32 starts [N], or None for Algorithm 1's own
uniform ones.
"""

import jax
import numpy as np

from tttjax.strategies.strategy import Case
from tttjax.ttt.hyperparameters import TTTConfig


def random_spans(case: Case, ttt: TTTConfig, key: jax.Array) -> None:
  """Uniform starts, drawn inside the loop (paper, section 3, step 2)."""
  del case, ttt, key


def oracle_spans(case: Case, ttt: TTTConfig, key: jax.Array) -> np.ndarray:
  """Spans around the evidence of the context's questions, in turn: an upper bound on choosing.

  The place of the evidence within its span is uniform. Evidence longer than a span is trained on
  from its beginning.
  """
  places = [place for question in case.example.questions for place in question.evidence]
  # A span's targets are start + 1 .. start + k, so these starts have the whole evidence in them.
  shares = np.asarray(jax.random.uniform(key, (ttt.steps,)))
  starts = []
  for i, share in enumerate(shares):
    begin, end = places[i % len(places)]
    first, last = end - 1 - ttt.span, begin - 1
    first = min(first, last)
    starts.append(first + round(float(share) * (last - first)))
  return np.clip(starts, 0, case.num_tokens - ttt.span - 1).astype(np.int32)


SPANS = {"random": random_spans, "oracle": oracle_spans}
