"""qTTT: N query-only steps on the context, then the answer (paper, Algorithm 1)."""

import dataclasses
from typing import ClassVar

import jax

from tttjax import flops
from tttjax.errors import UserError
from tttjax.session import Engine, Prefix
from tttjax.spec import option
from tttjax.strategies.selectors import SPANS
from tttjax.strategies.strategy import (
  Allowance,
  Case,
  Decoding,
  Reading,
  Reference,
  Result,
  Role,
  Sizes,
  adapt_flops,
  answer_flops,
  fitting_span,
)
from tttjax.ttt.hyperparameters import TTTConfig


@dataclasses.dataclass(frozen=True)
class Adapting(Reading):
  """Options of every strategy that takes query-only steps; None takes the config's value.

  Attributes:
    steps: N; None those of the run's budget: with a span or span_kv of its own, the largest number
      within its FLOPs.
    span: k, tokens per step.
    learning_rate: AdamW's.
    span_kv: the span's own keys and values come from the cache, 'frozen' (the paper's formula),
      or are 'recomputed'.
    spans: where they start: 'random' (the paper's) or 'oracle', around the evidence.
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

  def check(self, config) -> None:
    super().check(config)
    if self.spans not in SPANS:
      raise UserError(f"spans={self.spans}: choose one of {', '.join(SPANS)}")
    span = self.span or config.ttt.span
    if config.unit == "tokens" and span + 1 >= min(config.lengths):
      raise UserError(
        f"span={span} does not fit the shortest of config.lengths,"
        f" {min(config.lengths)}; use less than {min(config.lengths) - 1}"
      )
    if self.question not in ("after", "before"):
      raise UserError(f"question={self.question}: choose after or before")
    self.hyperparameters(TTTConfig())

  def hyperparameters(self, reference: TTTConfig) -> TTTConfig:
    """The reference's with this strategy's own values."""
    names = ("steps", "span", "learning_rate", "span_kv")
    own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
    return dataclasses.replace(reference, **own)

  def matched(self, sizes: Sizes, reference: Reference) -> TTTConfig:
    """The hyperparameters with the N that the budget pays for, where N is not given.

    Raises:
      UserError: it does not pay for one step.
    """
    own = self.hyperparameters(reference.ttt)
    own = dataclasses.replace(own, span=fitting_span(own.span, sizes))
    changed = (own.span, own.span_kv) != (reference.ttt.span, reference.ttt.span_kv)
    if self.steps is not None or not changed:
      return own
    steps = flops.largest_within(
      reference.flops, lambda n: adapt_flops(sizes, own, n) + answer_flops(sizes, delta=True)
    )
    if steps < 1:
      raise UserError(
        f"the budget of {reference.flops:.2e} FLOPs is too small for one step of span {own.span}"
        f" at {sizes.context} tokens; raise config.ttt.steps or lower the span"
      )
    return dataclasses.replace(own, steps=steps)

  def allowance(self, sizes: Sizes, reference: Reference) -> Allowance:
    ttt = self.matched(sizes, reference)
    adapting = adapt_flops(sizes, ttt, ttt.steps)
    return Allowance(adapting + answer_flops(sizes, delta=True), ttt, shared_flops=adapting)

  @property
  def before(self) -> bool:
    """Whether the question is encoded with the base weights."""
    return self.question == "before"

  def adapt(self, engine: Engine, case: Case, prefix: Prefix, ttt: TTTConfig, key: jax.Array):
    """Algorithm 1 on the case's context: (fast weights or None, Adaptation, Cost)."""
    return engine.adapt(case, prefix, ttt, key, SPANS[self.spans](case, ttt, key))


@dataclasses.dataclass(frozen=True)
class QTTT(Adapting):
  """Adapts on the context, then answers its questions."""

  name: ClassVar[str] = "qttt"
  label: ClassVar[str] = "qTTT"
  role: ClassVar[Role] = Role.METHOD
  description: ClassVar[str] = (
    "Query-only test-time training: the context is read once and its keys and values are "
    "kept. A few gradient steps of next-token prediction on random spans of it change the "
    "query projections and nothing else; the questions are then answered with them."
  )
  compared_with: ClassVar[tuple[str, ...]] = ("qttt_other_context", "thinking")

  def __call__(
    self, engine: Engine, case: Case, allowance: Allowance, decoding: Decoding, key: jax.Array
  ) -> Result:
    span_key, decode_key = jax.random.split(key)
    prefix, reading = engine.prefill(case, self.reading)
    fast, adaptation, adapting = self.adapt(engine, case, prefix, allowance.ttt, span_key)
    predictions, answering = engine.generate(
      case, prefix, fast, decoding.answer, decode_key, self.before
    )
    measured = None
    if decoding.mechanism and not self.before:  # it encodes the question with `fast`
      measured = engine.measure(case, prefix, fast, adaptation=adaptation, ttt=allowance.ttt)
    return Result(predictions, reading + adapting + answering, measured, adaptation)
