"""Retrieve and read: a few spans of the context, read by themselves instead of all of it."""

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from tttjax import flops
from tttjax.attention.caches import round_capacity
from tttjax.errors import UserError
from tttjax.session import Session
from tttjax.sharding import axis_size
from tttjax.spec import option
from tttjax.strategies.answering import Answering
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.case import Case
from tttjax.strategies.selectors import SELECTORS
from tttjax.strategies.strategy import Result, Role
from tttjax.ttt.spans import sample_starts

_MOST_SPANS = 1 << 16  # in memory, with their overlaps


@dataclasses.dataclass(frozen=True)
class Retrieve(Answering):
  """What a method that trains on spans has to beat: it could have read them once more instead.

  The whole context is read first, for what chooses the spans; then what stands in front of its
  first line, and the spans in their order, overlapping ones once. Both readings are charged.

  Attributes:
    spans: where they start, a name of `selectors`: 'oracle', around the evidence, or 'random'.
    span: k, tokens of each; None takes the run's.
    count: how many.
  """

  name: ClassVar[str] = "retrieve"
  label: ClassVar[str] = "retrieve and read"
  role: ClassVar[Role] = Role.CONTROL
  description: ClassVar[str] = (
    "Some spans of the context are read by themselves, as a short context, and the questions are"
    " answered from them. Training on spans is worth its cost only if it beats reading them."
  )

  spans: str = option(
    "oracle",
    {"oracle": "oracle spans", "random": "random spans"},
    "Oracle spans: those around the places with the answers, which no one knows in practice.",
  )
  span: int | None = option(None, "of {} tokens")
  count: int = option(8, "{} spans")

  def __post_init__(self):
    if self.spans not in SELECTORS:
      raise UserError(f"spans={self.spans}: choose one of {', '.join(SELECTORS)}")
    for name in ("span", "count"):
      if getattr(self, name) is not None and getattr(self, name) < 1:
        raise UserError(f"{name}={getattr(self, name)} must be at least 1")
    if self.count > _MOST_SPANS:
      raise UserError(f"count={self.count} must be at most {_MOST_SPANS}")

  def allowance(self, budget: Budget) -> Allowance:
    lengths = budget.lengths
    span = lengths.fitting_span(self.span or budget.ttt.span)
    # The task's head is read too: tens of tokens, which are not known before the example is.
    read = min(self.count * (span + 1), lengths.context)
    answering = flops.decode(lengths.architecture, read, lengths.prompt, lengths.answer, False)
    return Allowance(answering, dataclasses.replace(budget.still(), span=span), prefills=2)

  def __call__(self, session: Session, case: Case, allowance: Allowance, key: jax.Array) -> Result:
    span_key, decode_key = jax.random.split(key)
    whole, reading = self.read(session, case)
    span, questions = allowance.ttt.span, case.example.questions
    starts, choosing = SELECTORS[self.spans](session, whole, questions, span_key, span, self.count)
    del whole
    if starts is None:
      starts = sample_starts(span_key, case.num_tokens, span, self.count)
    capacity = lambda tokens: round_capacity(tokens, axis_size(session.model.mesh, "context"))
    short = shortened(case, np.asarray(starts), span, capacity)
    context, rereading = self.read(session, short)
    predictions, answering = self.answer(session, short, context, None, allowance, decode_key)
    measured = self.measure(session, short, context, None)
    return Result(predictions, reading + choosing + rereading + answering, measured)


def shortened(case: Case, starts: np.ndarray, span: int, capacity) -> Case:
  """The case with a context of its head and the spans [start, start + span] alone.

  Args:
    capacity: (tokens) -> slots of the cache.
  """
  example = case.example
  keep = np.zeros(case.num_tokens, bool)
  keep[: example.line_starts[0] if example.line_starts else 0] = True
  for start in starts:
    keep[start : start + span + 1] = True
  place = np.cumsum(keep) - keep  # of each token that is kept
  moved = lambda spans: tuple(
    (int(place[begin]), int(place[begin] + keep[begin:end].sum())) for begin, end in spans
  )
  questions = tuple(
    dataclasses.replace(q, evidence=None if q.evidence is None else moved(q.evidence))
    for q in example.questions
  )
  tokens = case.tokens[:, keep]
  lines = tuple(int(place[start]) for start in example.line_starts if keep[start])
  example = dataclasses.replace(
    example, questions=questions, num_tokens=tokens.shape[1], line_starts=lines
  )
  return dataclasses.replace(
    case, example=example, tokens=tokens, capacity=capacity(tokens.shape[1])
  )
