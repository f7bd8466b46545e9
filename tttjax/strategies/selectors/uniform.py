"""Uniform starts, the paper's own choice (its section 3, step 2)."""

from typing import ClassVar

from tttjax.session import Cost


class UniformSpans:
  """Drawn inside the loop of Algorithm 1."""

  name: ClassVar[str] = "random"

  def __call__(self, session, context, questions, key, span, count) -> tuple[None, Cost]:
    return None, Cost()
