"""What strategies that take query-only steps share: their options, their steps, their spans."""

import dataclasses

import jax

from tttjax import flops
from tttjax.errors import UserError
from tttjax.session import Adaptation, Cost, ReadContext, Session
from tttjax.spec import option
from tttjax.strategies.answering import WithPositions
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.case import Case
from tttjax.strategies.selectors import SELECTORS
from tttjax.ttt.hyperparameters import TTTConfig

_OWN = ("steps", "span", "learning_rate", "span_kv")


@dataclasses.dataclass(frozen=True)
class Adapting(WithPositions):
  """Options of every strategy that takes query-only steps; None takes the run's value.

  Attributes:
    steps: N; None those of the run's budget: with spans of its own kind, the largest number within
      its FLOPs.
    span: k, tokens per step.
    learning_rate: AdamW's.
    span_kv: the span's own keys and values come from the cache, 'frozen' (the paper's formula),
      or are 'recomputed'.
    spans: where they start, a name of `selectors`: 'random' (the paper's) or 'oracle'.
    question: encode the question 'after' the adaptation, with the adapted queries, or 'before' it,
      with the base weights: then only its last token and the output use the adapted ones.
  """

  steps: int | None = option(None, {"1": "1 step", "": "{} steps"})
  span: int | None = None
  learning_rate: float | None = None
  span_kv: str | None = option(
    None,
    {"recomputed": "span keys recomputed", "frozen": "span keys frozen"},
    "Span keys recomputed: the keys and values of the trained span are computed anew in each step"
    " instead of being read from the cache.",
  )
  spans: str = option(
    "random",
    {"oracle": "oracle spans (control)"},
    "Oracle spans, a control: training is allowed to look at the places with the answers, which no"
    " one knows in practice. It hints at what choosing better spans could gain.",
  )
  question: str = option(
    "after",
    {"before": "question encoded before"},
    "Question encoded before: the question is read before the training, with the unchanged weights,"
    " instead of after it.",
  )

  def __post_init__(self):
    super().__post_init__()
    if self.spans not in SELECTORS:
      raise UserError(f"spans={self.spans}: choose one of {', '.join(SELECTORS)}")
    if self.question not in ("after", "before"):
      raise UserError(f"question={self.question}: choose after or before")
    self.hyperparameters(TTTConfig())

  @property
  def before(self) -> bool:
    """Whether the question is encoded with the base weights."""
    return self.question == "before"

  def hyperparameters(self, run: TTTConfig) -> TTTConfig:
    """The run's with this strategy's own values."""
    own = {name: getattr(self, name) for name in _OWN if getattr(self, name) is not None}
    return dataclasses.replace(run, **own)

  def matched(self, budget: Budget) -> TTTConfig:
    """The hyperparameters, with the N that the budget pays for where N is not given.

    Raises:
      UserError: it does not pay for one step, or the span does not fit.
    """
    lengths = budget.lengths
    own = self.hyperparameters(budget.ttt)
    own = dataclasses.replace(own, span=lengths.fitting_span(own.span))
    changed = (own.span, own.span_kv) != (budget.ttt.span, budget.ttt.span_kv)
    if self.steps is not None or not changed:
      return own
    answer = lengths.answer_flops(delta=True)
    steps = flops.largest_within(budget.flops, lambda n: lengths.adapt_flops(own, n) + answer)
    if steps < 1:
      raise UserError(
        f"the budget of {budget.flops:.2e} FLOPs is too small for one step of span {own.span} at"
        f" {lengths.context} tokens; raise it or lower the span"
      )
    return dataclasses.replace(own, steps=steps)

  def adapt(
    self, session: Session, case: Case, context: ReadContext, allowance: Allowance, key: jax.Array
  ) -> tuple[dict | None, Adaptation | None, Cost]:
    """Algorithm 1 on the case's context: (fast weights or None, how it went, cost).

    Chosen spans may cost more or less than uniform ones; unless N is given, as many are taken as
    the allowance pays for.
    """
    ttt = allowance.ttt
    if not ttt.steps and self.steps is None:
      return None, None, Cost()
    most = ttt.steps if self.steps is not None else 2 * ttt.steps
    select = SELECTORS[self.spans]
    starts, choosing = select(session, context, case.example.questions, key, ttt.span, most)
    if starts is None:
      fast, adaptation, cost = session.adapt(context, ttt, key)
      return fast, adaptation, choosing + cost
    steps = most
    if self.steps is None:
      config = session.model.config
      spent = lambda n: flops.adapt(
        config, context.num_tokens, ttt.span, n, starts[:n], span_kv=ttt.span_kv
      )
      steps = max(n for n in range(1, most + 1) if n == 1 or spent(n) <= allowance.shared_flops)
    ttt = dataclasses.replace(ttt, steps=steps)
    fast, adaptation, cost = session.adapt(context, ttt, key, starts[:steps])
    return fast, adaptation, choosing + cost


@dataclasses.dataclass(frozen=True)
class Sharing(Adapting):
  """Options of strategies whose budget may be shared by steps and thoughts.

  Attributes:
    share: of the N steps that are taken before the thoughts, rounded down; 0 does not adapt.
  """

  share: float = option(
    0.0,
    "{} of the steps first",
    "Some of the steps first: that share of the budget's query-only steps is taken before the"
    " thoughts, which get what is left of the budget.",
  )

  def __post_init__(self):
    super().__post_init__()
    if not 0 <= self.share < 1:
      raise UserError(f"share={self.share} must be at least 0 and below 1")

  def first_steps(self, budget: Budget) -> TTTConfig:
    """The steps before the thoughts.

    Raises:
      UserError: the share is not 0, but too small for one step.
    """
    if not self.share:
      return budget.still()
    whole = self.matched(budget)
    ttt = dataclasses.replace(whole, steps=int(whole.steps * self.share))
    if ttt.steps < 1:
      raise UserError(
        f"the budget of {whole.steps} steps is too small for one step at share={self.share}; raise"
        " the steps or the share"
      )
    return ttt

  def shared_allowance(self, budget: Budget, samples: int, cost) -> Allowance:
    """Steps first, then as many thinking tokens as the rest pays for.

    Args:
      samples: thoughts or beams.
      cost: (thinking tokens of each, whether there is a Delta) -> model FLOPs of all of them.
    """
    ttt = self.first_steps(budget)
    adapting = budget.lengths.adapt_flops(ttt, ttt.steps) if ttt.steps else 0
    whole = lambda tokens: adapting + cost(tokens, ttt.steps > 0)
    tokens = budget.tokens_within(whole, (1 - self.share) / samples)
    return Allowance(whole(tokens), ttt, tokens, samples, shared_flops=adapting)
