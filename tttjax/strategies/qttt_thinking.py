"""qTTT, then thinking: the budget is shared between steps and thinking tokens."""

import dataclasses
from typing import ClassVar

from tttjax import flops
from tttjax.errors import UserError
from tttjax.spec import option
from tttjax.strategies.adapting import Sharing
from tttjax.strategies.budget import Allowance, Budget
from tttjax.strategies.qttt import QTTT
from tttjax.strategies.strategy import Role


@dataclasses.dataclass(frozen=True)
class QTTTThinking(Sharing, QTTT):
  """Adapts with a share of the steps, and thinks with the adapted queries for what is left."""

  name: ClassVar[str] = "qttt_thinking"
  label: ClassVar[str] = "qTTT, then thinking"
  role: ClassVar[Role] = Role.METHOD
  description: ClassVar[str] = "qTTT with a part of the budget, then thinking with the rest."
  compared_with: ClassVar[tuple[str, ...]] = ()

  share: float = option(0.5, "{} of the steps first")

  def __post_init__(self):
    super().__post_init__()
    if not self.share:
      raise UserError("share=0 takes no steps: use the strategy thinking")

  def allowance(self, budget: Budget) -> Allowance:
    lengths = budget.lengths
    return self.shared_allowance(
      budget, 1, lambda n, delta: flops.decode(*lengths.shape, n + lengths.answer, delta)
    )
