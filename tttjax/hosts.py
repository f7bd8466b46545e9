"""Several processes that run as one: they begin together, stay in step, and end together.

Every process computes the same and process 0 writes. What a process alone may know (files, a
failure of its own) goes through the coordination service of jax.distributed, a store of texts that
needs no device, so that each wait has a timeout and names who is missing. All of it does nothing in
a program of one process.
"""

from collections.abc import Mapping, Sequence
import contextlib
import glob
import importlib.util
import json
import os
import re
import socket
import sys
import threading
import time
import zlib

import jax

from tttjax import farewell, interrupts, program
from tttjax.errors import UserError

SECONDS = 60  # that a process may be silent, by default
_START_SECONDS = 300
_FAREWELL_SECONDS = 5
_PREFIX = "tttjax/"
_PIECE = 1 << 20  # bytes of one message
_PORTS = 4096, 61440  # how many, and the first: above what systems hand out by themselves

_state: "_Peers | None" = None


class _Peers:
  """What a process knows of the others, and the threads by which it hears of their end."""

  def __init__(self, seconds: float):
    self.rank, self.count, self.seconds = jax.process_index(), jax.process_count(), seconds
    from orbax.checkpoint import multihost  # takes a second that one process need not wait for

    self.client = multihost.get_jax_distributed_client()
    self.ended = threading.Event()
    self._meetings: dict[str, int] = {}  # by name, how many there were
    self._put(f"host/{self.rank}", socket.gethostname())
    self._wait("start", _START_SECONDS)
    self.hosts = self._numbered("host")
    for work in (self._beat, self._listen):
      threading.Thread(target=work, name="hosts", daemon=True).start()

  def named(self, rank: int) -> str:
    """'process 1 of 2 (node7)'."""
    host = self.hosts.get(rank)
    return f"process {rank} of {self.count}" + (f" ({host})" if host else "")

  def _put(self, key: str, text: str, again: bool = False) -> None:
    self.client.key_value_set(_PREFIX + key, text, allow_overwrite=again)

  def _numbered(self, folder: str) -> dict[int, str]:
    found = self.client.key_value_dir_get(f"{_PREFIX}{folder}/")
    return {int(key.rpartition("/")[2]): text for key, text in found}

  def _wait(self, name: str, seconds: float, ranks: Sequence[int] | None = None) -> None:
    """A barrier; whoever comes to it signs first, so that those who did not are known."""
    self._put(f"{name}/{self.rank}", "here")
    ranks = range(self.count) if ranks is None else ranks
    try:
      self.client.wait_at_barrier(_PREFIX + name, int(seconds * 1000), list(ranks))
    except jax.errors.JaxRuntimeError:
      try:
        here = self._numbered(name)
      except jax.errors.JaxRuntimeError:
        here = {rank: "" for rank in range(1, self.count)}  # process 0 keeps the store
      self.lost([rank for rank in ranks if rank not in here] or [self.rank], seconds)

  def meet(self, text: str, what: str, ranks: Sequence[int] | None, name: str) -> None:
    """See `together`."""
    ranks = range(self.count) if ranks is None else ranks
    if len(ranks) == 1:
      return
    self._meetings[name] = number = self._meetings.get(name, 0) + 1
    place = f"{name}-{number}"
    self._put(f"{place}-says/{self.rank}", text)
    self._wait(place, self.seconds, ranks)
    said = self._numbered(f"{place}-says")
    self.client.key_value_delete(f"{_PREFIX}{place}/{self.rank}")
    first, odd = ranks[0], [rank for rank in ranks if said[rank] != said[ranks[0]]]
    if odd:
      raise UserError(
        f"{self.named(first)} and {self.named(odd[0])} differ in {what}: give all processes the"
        " same command, files and versions of the software"
      )

  def lost(self, ranks: list[int], seconds: float) -> None:
    """Ends all processes that are still there, because of those that are not."""
    names = " and ".join(map(self.named, ranks))
    self.end(f"{names}: not heard of for {seconds:.0f} seconds", interrupts.RESTART)

  def end(self, reason: str, code: int) -> None:
    """Says why to the others, and ends this process."""
    _line(reason)
    self.announce(reason, code)
    os._exit(code)

  def announce(self, reason: str, code: int) -> None:
    """Tells the others that they are to end, and waits a little until they know."""
    self.ended.set()
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # process 0 may be gone
      self._put("end", json.dumps({"reason": reason, "code": code}))
      self._put(f"ended/{self.rank}", "")
      until = time.monotonic() + _FAREWELL_SECONDS
      while self.rank == 0 and time.monotonic() < until:
        if len(self._numbered("ended")) == self.count:
          break
        time.sleep(0.05)

  def _beat(self) -> None:
    """Signs every few seconds; process 0 reads the others' signs."""
    signs: dict[int, tuple[str, float]] = {}
    for beat in range(sys.maxsize):
      try:
        self._put(f"alive/{self.rank}", str(beat), again=True)
        now = time.monotonic()
        for rank, sign in self._numbered("alive").items() if self.rank == 0 else ():
          if signs.get(rank, ("", now))[0] != sign:
            signs[rank] = sign, now
      except jax.errors.JaxRuntimeError:
        return  # the other thread says so
      silent = [rank for rank, (_, last) in signs.items() if now - last > self.seconds]
      if silent and not self.ended.is_set():
        self.lost(silent, self.seconds)
      if self.ended.wait(self.seconds / 6):
        return

  def _listen(self) -> None:
    """Waits for the end that another process announces, or that of process 0."""
    while not self.ended.is_set():
      try:
        told = json.loads(self.client.blocking_key_value_get(f"{_PREFIX}end", 3_600_000))
      except jax.errors.JaxRuntimeError as error:
        if self.ended.is_set() or "DEADLINE_EXCEEDED" in str(error):
          continue
        _line(f"{self.named(0)} is gone")
        os._exit(interrupts.RESTART)
      if self.ended.is_set():
        return  # this one's own
      with contextlib.suppress(jax.errors.JaxRuntimeError):
        self._put(f"ended/{self.rank}", "")
      _line(f"ended with {told['reason']}")
      os._exit(told["code"])


def _line(text: str) -> None:
  os.write(2, f"{program.name()}: {text}{interrupts.remark()}\n".encode())


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
    seconds: how long one of them may be silent before the others stop.

  Raises:
    UserError: arguments that do not make sense together, processes that cannot meet.
  """
  global _state
  coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
  _check(coordinator, num_processes, process_id)
  if num_processes is None and scheduled_processes(os.environ) == 1:
    return
  if num_processes == 1:
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
    _state = _Peers(seconds)
    farewell.tell(_state.announce)


_FLAGS = "give --coordinator=HOST:PORT, --num_processes and --process_id"


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


def scheduled_processes(environ: Mapping[str, str]) -> int | None:
  """How many processes a scheduler started; 1 where none did, None where jax has to ask."""
  number = lambda name: int(environ[name]) if environ.get(name, "").isdecimal() else 1
  if all(name in environ for name in ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID")):
    return number("SLURM_NTASKS")
  if "OMPI_COMM_WORLD_SIZE" in environ:
    return number("OMPI_COMM_WORLD_SIZE")
  if environ.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu":
    return 1
  workers = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES")
  if workers:
    return len(workers.split(",")) * number("MEGASCALE_NUM_SLICES")
  if environ.get("TPU_SKIP_MDS_QUERY") or not importlib.util.find_spec("libtpu"):
    return 1
  # A TPU VM of Compute Engine: its metadata server knows.
  return None if glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*") else 1


def local_devices(environ: Mapping[str, str]) -> list[int]:
  """Which of a node's GPUs are this process's; none named means all that it sees.

  jax would take one for each process of SLURM and Open MPI, whatever was allocated.

  Raises:
    UserError: the processes of a node cannot share its GPUs evenly.
  """
  if environ.get("JAX_LOCAL_DEVICE_IDS"):
    return [int(text) for text in environ["JAX_LOCAL_DEVICE_IDS"].split(",")]
  number = lambda name: re.match(r"\d*", environ.get(name, ""))[0]
  here = int(number("SLURM_STEP_TASKS_PER_NODE") or number("OMPI_COMM_WORLD_LOCAL_SIZE") or 1)
  own = int(number("SLURM_LOCALID") or number("OMPI_COMM_WORLD_LOCAL_RANK") or 0)
  visible = environ.get("CUDA_VISIBLE_DEVICES") or environ.get("ROCR_VISIBLE_DEVICES")
  bound = "SLURM_GPUS_PER_TASK" in environ or "SLURM_TRES_PER_TASK" in environ
  if here == 1 or not visible or bound:
    return []
  gpus = len(visible.split(","))
  if gpus < here:  # each sees its own
    return []
  if gpus % here:
    raise UserError(
      f"{here} processes on this node cannot share its {gpus} GPUs (CUDA_VISIBLE_DEVICES="
      f"{visible}): start as many as divide them, or set JAX_LOCAL_DEVICE_IDS"
    )
  each = gpus // here
  return list(range(own * each, (own + 1) * each))


def choose_port(environ: dict[str, str]) -> None:
  """A port for each step of a SLURM job, where jax has one for all steps of it."""
  job, step = environ.get("SLURM_JOB_ID", ""), environ.get("SLURM_STEP_ID", "")
  if job.isdecimal() and step.isdecimal():
    count, first = _PORTS
    environ.setdefault("JAX_COORDINATOR_PORT", str(first + (int(job) + 97 * int(step)) % count))


def rank() -> int:
  """Which process this is."""
  return _state.rank if _state else 0


def count() -> int:
  """How many processes there are."""
  return _state.count if _state else 1


def is_writer() -> bool:
  """Whether this process is the one that writes files and tables."""
  return rank() == 0


def together(text: str, what: str, ranks: Sequence[int] | None = None, name: str = "all") -> None:
  """Waits for processes, which have to say the same `text` of `what`; ends them if one is missing.

  Args:
    ranks: of those that meet; None are all.
    name: of the meetings of these.

  Raises:
    UserError: they differ.
  """
  if _state is not None:
    _state.meet(text, what, ranks, name)


def send(name: str, data: bytes) -> None:
  """Gives `data` to process 0; a name is used once."""
  pieces = _pieces(data)
  for number, piece in enumerate(pieces):
    _state.client.key_value_set_bytes(f"{_PREFIX}data/{name}/{number}", piece)
  _state.client.key_value_set(f"{_PREFIX}data/{name}/pieces", str(len(pieces)))


def received(name: str) -> bytes | None:
  """What was sent by this name, once; None where it has not come yet."""
  client, key = _state.client, f"{_PREFIX}data/{name}"
  try:
    number = int(client.key_value_try_get(f"{key}/pieces"))
  except jax.errors.JaxRuntimeError as error:
    if "NOT_FOUND" in str(error):
      return None
    raise
  packed = b"".join(client.key_value_try_get_bytes(f"{key}/{i}") for i in range(number))
  client.key_value_delete(f"{key}/")
  return zlib.decompress(packed)


def from_writer(name: str, data: bytes | None) -> bytes:
  """What process 0 gives as `data`, on every process; a name is used once."""
  if _state is None:
    return data
  if _state.rank == 0:
    send(name, data)
    return data
  client, key, wait = _state.client, f"{_PREFIX}data/{name}", _START_SECONDS * 1000
  number = int(client.blocking_key_value_get(f"{key}/pieces", wait))
  return zlib.decompress(
    b"".join(client.blocking_key_value_get_bytes(f"{key}/{i}", wait) for i in range(number))
  )


def _pieces(data: bytes) -> list[bytes]:
  packed = zlib.compress(data)
  return [packed[i : i + _PIECE] for i in range(0, len(packed), _PIECE)]


def finish() -> None:
  """Waits until all processes have done their work; from here on each may end when it likes."""
  global _state
  if _state is not None:
    _state.meet("", "", None, "finish")
    _state.ended.set()
    farewell.tell(None)
    _state = None
    jax.distributed.shutdown()
