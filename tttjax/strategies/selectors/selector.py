"""What a selector of training spans receives and returns."""

from typing import ClassVar, Protocol

import jax
import numpy as np

from tttjax.session import Cost, ReadContext, Session
from tttjax.tasks.example import Question


class Selector(Protocol):
  """A way to choose the spans that test-time training trains on.

  Attributes:
    name: in configs and rows.
  """

  name: ClassVar[str]

  def __call__(
    self,
    session: Session,
    context: ReadContext,
    questions: tuple[Question, ...],
    key: jax.Array,
    span: int,
    count: int,
  ) -> tuple[np.ndarray | None, Cost]:
    """Chooses spans of `span` inputs and targets.

    Args:
      questions: asked about the context.
      key: of its random choices.
      count: spans wanted; the first n are the same whatever their number.

    Returns:
      (int32 [count] starts, what choosing cost); None leaves the spans to Algorithm 1.

    Raises:
      UserError: it cannot choose, for example without known evidence.
    """
