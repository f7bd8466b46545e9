"""What strategies do alike: read the context, decode the answers, measure."""

import dataclasses

import jax

from tttjax.checks import check_number
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.session import Adaptation, Cost, Mechanism, ReadContext, Session
from tttjax.spec import option
from tttjax.strategies.budget import Allowance
from tttjax.strategies.case import Case
from tttjax.strategies.second_calls import Outputs, concluded
from tttjax.strategies.strategy import Prediction


class Answering:
  """What strategies do alike: read the context, decode the answers, measure."""

  rope: bool = True
  stretch: int = 0

  def read(self, session: Session, case: Case) -> tuple[ReadContext, Cost]:
    """Prefills the case's context this way."""
    positions = case.example.stretched_positions(self.stretch) if self.stretch else None
    return session.read(case.tokens, case.capacity, self.rope, positions)

  def end(self, case: Case) -> int:
    """Positions that the context takes."""
    return max(case.num_tokens, self.stretch)

  def sampling(self, case: Case, allowance: Allowance) -> SamplingConfig:
    """How this strategy decodes: with thoughts where it may think."""
    if allowance.thinking_tokens is None:
      return case.decoding.answer
    begin = self.end(case) + max(map(len, case.thinking_prompts))
    return case.decoding.with_thoughts(allowance.thinking_tokens, begin)

  def answer(
    self,
    session: Session,
    case: Case,
    context: ReadContext,
    fast,
    allowance: Allowance,
    key: jax.Array,
    question_before: bool = False,
  ) -> tuple[tuple[Prediction, ...], Cost]:
    """One output for every question, thoughts first where there is a budget for them."""
    outputs, cost = self.write(
      session, case, context, fast, allowance, key, question_before=question_before
    )
    return tuple(map(Prediction.of, outputs)), cost

  def write(
    self,
    session: Session,
    case: Case,
    context: ReadContext,
    fast,
    allowance: Allowance,
    key: jax.Array,
    **how,
  ) -> tuple[Outputs, Cost]:
    """Outputs for every question, by two calls where it has two; `how`: see Session.generate."""
    thinks = allowance.thinking_tokens is not None
    outputs, cost = session.generate(
      context,
      fast,
      case.thinking_prompts if thinks else case.prompts,
      self.sampling(case, allowance),
      key,
      room=case.room,
      **how,
    )
    outputs, concluding = concluded(session, case, fast, outputs, key)
    return outputs, cost + concluding

  def measure(
    self,
    session: Session,
    case: Case,
    context: ReadContext,
    fast,
    predictions: tuple[Prediction, ...] | None = None,
    adaptation: Adaptation | None = None,
    span: int = 0,
  ) -> tuple[Mechanism | None, ...] | None:
    """What the attention does to the evidence; None where it is not asked for, or not known where.

    Args:
      predictions: measure while these are written, thoughts included; None: while the reference
        answers would be.
      adaptation, span: measure the loss of spans that it did not train on, too.
    """
    evidence = [question.evidence for question in case.example.questions]
    if not case.decoding.mechanism or None in evidence:
      return None
    if predictions is None:
      prompts, written, during = case.prompts, case.answers, "reference"
    else:
      prompts, during = case.thinking_prompts, "output"
      written = [prediction.outputs[0].ids for prediction in predictions]
    return session.measure(
      context, fast, prompts, written, evidence, during, adaptation, span, case.room
    )


@dataclasses.dataclass(frozen=True)
class WithPositions(Answering):
  """Strategies with options for the positions at which the context is read.

  Attributes:
    rope: rotate queries and keys; off is the paper's switch of table 3, in prefill and after.
    stretch: spread the context's positions over this many, its lines kept whole; 0 leaves them. The
      control that tells long distances from many competitors.
  """

  rope: bool = option(
    True,
    {"off": "RoPE off"},
    "RoPE off: positions are not encoded at all, and the context is read again that way. Shows what"
    " part distance plays.",
  )
  stretch: int = option(
    0,
    "stretched to {}",
    "Stretched, a control: the same context with its positions spread out as if it were longer."
    " Distances grow, the number of competitors does not; if accuracy stays, it is competition, not"
    " distance, that hurts.",
  )

  def __post_init__(self):
    check_number("stretch", self.stretch, 0, whole=True)
