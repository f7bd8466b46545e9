"""Spans around the evidence: an upper bound on what choosing spans could gain."""

from typing import ClassVar

import jax
import numpy as np

from tttjax.errors import UserError
from tttjax.session import Cost


class OracleSpans:
  """The questions' evidence in turn; its place within its span is uniform.

  Evidence longer than a span is trained on from its beginning.
  """

  name: ClassVar[str] = "oracle"

  def __call__(self, session, context, questions, key, span, count) -> tuple[np.ndarray, Cost]:
    places = [place for question in questions for place in question.evidence or ()]
    if not places:
      raise UserError("spans=oracle needs questions whose evidence is known; use spans=random")
    # numpy's generator: the first n draws are the same whatever their number.
    shares = np.random.default_rng(np.asarray(jax.random.key_data(key))).random(count)
    # A span's targets are start + 1 .. start + k, so these starts have the whole evidence in them.
    starts = []
    for i, share in enumerate(shares):
      begin, end = places[i % len(places)]
      first, last = end - 1 - span, begin - 1
      first = min(first, last)
      starts.append(first + round(float(share) * (last - first)))
    return np.clip(starts, 0, context.num_tokens - span - 1).astype(np.int32), Cost()
