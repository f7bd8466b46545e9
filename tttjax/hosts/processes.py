"""The processes of a program: joining them, and what every part of a run may ask of them.

Every process computes the same, process 0 writes. All of this does nothing in a program of one
process.
"""

from collections.abc import Sequence
import os
import re

import jax

from tttjax import farewell, interrupts
from tttjax.errors import UserError
from tttjax.hosts.allocation import choose_port, local_devices, scheduled_processes
from tttjax.hosts.peers import Peers

SECONDS = 60  # that a process may be silent, by default
_START_SECONDS = 300
# Who is gone is heard of earlier: this is for one that lives and does not come, as some may have
# done their work days before others.
_LONGEST_SECONDS = 30 * 86400
_FLAGS = "give --coordinator=HOST:PORT, --num_processes and --process_id"

_peers: Peers | None = None


def initialize(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  seconds: float = SECONDS,
) -> None:
  """Joins the other processes of this program, if there are any; before a device is touched.

  Without arguments what a scheduler says is used: SLURM's steps, Open MPI, TPU slices of Google's
  clouds; a program that none of them started several times is alone.

  Args:
    coordinator: host:port of process 0, where the processes meet; JAX_COORDINATOR_ADDRESS too.
    num_processes: how many processes there are.
    process_id: which one this is, from 0.
    seconds: how long one of them may be silent before the others end.

  Raises:
    UserError: arguments that do not make sense together, processes that cannot meet.
  """
  global _peers
  coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
  _check(coordinator, num_processes, process_id)
  number = scheduled_processes(os.environ) if num_processes is None else num_processes
  if number == 1:
    return
  choose_port(os.environ)
  # Its handler of SIGTERM would take the place of ours.
  jax.config.update("jax_enable_preemption_service", False)
  devices = local_devices(os.environ)
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      local_device_ids=devices,
      initialization_timeout=_START_SECONDS,
      heartbeat_timeout_seconds=int(3 * seconds) + 30,  # ours says more, and comes first
    )
  except (ValueError, RuntimeError) as error:
    reason = " ".join(str(error).split())[:300]
    raise UserError(f"the processes did not meet: {reason}; {_FLAGS}") from None
  if jax.process_count() > 1:
    _peers = Peers(seconds)
    farewell.tell(_peers.announce)
    interrupts.also_ask(_peers.stop)


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
  if (num_processes is None) != (process_id is None):
    missing = "--num_processes" if num_processes is None else "--process_id"
    raise UserError(f"{missing} is missing: {_FLAGS}")
  if num_processes is None:
    return
  if num_processes < 1 or not 0 <= process_id < num_processes:
    raise UserError(
      f"--num_processes={num_processes} --process_id={process_id}: processes are numbered from 0"
      " to one less than there are"
    )
  if num_processes > 1 and not coordinator:
    raise UserError(f"--coordinator is missing: {_FLAGS}")
  if coordinator and not re.fullmatch(r".+:\d{1,5}", coordinator):
    raise UserError(f"--coordinator={coordinator}: give HOST:PORT, such as node1:8476")


def rank() -> int:
  """Which process this is."""
  return _peers.rank if _peers else 0


def count() -> int:
  """How many processes there are."""
  return _peers.count if _peers else 1


def is_writer() -> bool:
  """Whether this process is the one that writes files and tables."""
  return rank() == 0


def together(
  text: str,
  what: str,
  ranks: Sequence[int] | None = None,
  name: str = "all",
  seconds: float = _LONGEST_SECONDS,
) -> None:
  """Waits for processes, which have to say the same `text` of `what`.

  All end where one of them is gone, or does not come in time.

  Args:
    ranks: of those that meet; None are all.
    name: of the meetings of these.
    seconds: how long to wait for one that lives and does not come.

  Raises:
    UserError: they differ.
  """
  if _peers:
    _peers.meet(text, what, ranks, name, seconds)


def send(name: str, data: bytes) -> None:
  """Gives `data` to process 0; a name is used once."""
  _peers.send(name, data)


def received(name: str) -> bytes | None:
  """What was sent by this name, once; None where it has not come yet."""
  return _peers.received(name)


def from_writer(name: str, data: bytes | None) -> bytes:
  """What process 0 gives as `data`, on every process; a name is used once."""
  return _peers.from_writer(name, data) if _peers else data


def finish() -> None:
  """Waits until all processes have come here; from then on each may end when it likes.

  To be called once, when nothing is left that they do together.
  """
  if _peers:
    _peers.meet("", "", None, "finish", _LONGEST_SECONDS)
    farewell.tell(None)
    interrupts.also_ask(None)
    _peers.finish()
    jax.distributed.shutdown()
