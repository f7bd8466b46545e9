"""Strategies: ways to spend compute on a context before answering, one file each.

A strategy is a frozen dataclass of its options that answers the questions of a case
(tttjax.strategies.strategy). A new one is a new file and its line here. Span sampling and decoding
draw from the same two halves of the key in all of them: strategies differ by what they do, not by
luck.
"""

from tttjax.strategies.beam import Beam
from tttjax.strategies.full_ttt import FullTTT
from tttjax.strategies.in_context import InContext
from tttjax.strategies.log_temperature import LogTemperature
from tttjax.strategies.qttt import QTTT
from tttjax.strategies.qttt_other_context import QTTTOtherContext
from tttjax.strategies.qttt_thinking import QTTTThinking
from tttjax.strategies.retrieve import Retrieve
from tttjax.strategies.self_consistency import SelfConsistency
from tttjax.strategies.strategy import Role, Strategy
from tttjax.strategies.thinking import Thinking

STRATEGIES: dict[str, type[Strategy]] = {
  kind.name: kind
  for kind in (
    InContext,
    Thinking,
    QTTT,
    QTTTOtherContext,
    QTTTThinking,
    SelfConsistency,
    Beam,
    FullTTT,
    LogTemperature,
    Retrieve,
  )
}
