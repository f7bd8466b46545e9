"""Several processes that run as one: they begin together, stay in step, and end together.

processes.py    joining them, and what every part of a run may ask of them
peers.py        what one process knows of the others, and how it hears of their end
listening.py    whether process 0 is still there
allocation.py   what a scheduler says: how many processes, which devices, a port
"""

from tttjax.hosts.processes import (
  SECONDS,
  count,
  finish,
  from_writer,
  initialize,
  is_writer,
  rank,
  received,
  send,
  together,
)

__all__ = [
  "SECONDS",
  "count",
  "finish",
  "from_writer",
  "initialize",
  "is_writer",
  "rank",
  "received",
  "send",
  "together",
]
