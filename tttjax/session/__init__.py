"""One session under everything that answers: read, adapt, generate, score, measure, with costs."""

from tttjax.session.cost import Cost, Phase
from tttjax.session.model_session import Session
from tttjax.session.values import Adaptation, Ending, Mechanism, Output, ReadContext, Room

__all__ = [
  "Adaptation",
  "Cost",
  "Ending",
  "Mechanism",
  "Output",
  "Phase",
  "ReadContext",
  "Room",
  "Session",
]
