"""The control of qTTT: queries adapted on a different context of the same length.

What it gains over in-context is generic adaptation to long contexts; only what
qTTT gains over it is specific to the context at hand. Two haystacks of one source
tree (code_bugs) overlap more and more as they grow, and the control loses its force.
"""

import dataclasses
from typing import ClassVar

import jax

from tttjax.session import Engine
from tttjax.strategies.qttt import Adapting
from tttjax.strategies.strategy import Allowance, Case, Decoding, Reference, Result, Role, Sizes


@dataclasses.dataclass(frozen=True)
class QTTTOtherContext(Adapting):
  """As qttt, with `case.other` in Algorithm 1; reading that one is charged too."""

  name: ClassVar[str] = "qttt_other_context"
  label: ClassVar[str] = "qTTT on another context (control)"
  role: ClassVar[Role] = Role.CONTROL
  description: ClassVar[str] = (
    "The same training as qTTT, but on a different context of the same length. What this "
    "gains is general adaptation to such texts; only what qTTT gains beyond it is owed to "
    "the context at hand."
  )

  def allowance(self, sizes: Sizes, reference: Reference) -> Allowance:
    return dataclasses.replace(super().allowance(sizes, reference), prefills=2)

  def __call__(
    self, engine: Engine, case: Case, allowance: Allowance, decoding: Decoding, key: jax.Array
  ) -> Result:
    span_key, decode_key = jax.random.split(key)
    other, reading_other = engine.prefill(case.other, self.reading)
    fast, adaptation, adapting = self.adapt(engine, case.other, other, allowance.ttt, span_key)
    del other
    prefix, reading = engine.prefill(case, self.reading)
    predictions, answering = engine.generate(
      case, prefix, fast, decoding.answer, decode_key, self.before
    )
    measured = None
    if decoding.mechanism and not self.before:
      # Its spans lie in the other context: all of this one is held out.
      unseen = dataclasses.replace(adaptation, start=())
      measured = engine.measure(case, prefix, fast, adaptation=unseen, ttt=allowance.ttt)
    return Result(predictions, reading_other + adapting + reading + answering, measured, adaptation)
