"""What one process knows of the others, and how it hears of their end.

Everything goes through the coordination service of jax.distributed, a store of texts on process 0
that needs no device, so that each wait can end and name who is missing.

alive/RANK       a sign of life every few seconds; process 0 looks whose stay away
stop             some process is to end soon (SIGTERM): all finish what they have in hand
end              why the first process ended, and its exit code: all end at once
ended/RANK       who has heard of that; process 0 waits for them, since the store goes with it
MEETING/RANK     how often a process came to a meeting of that name, and what it said there
data/NAME/i      what processes send to process 0
"""

from collections.abc import Iterator, Sequence
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
import zlib

import jax
from jax._src import distributed  # where process 0 is, its public part does not say

from tttjax import files, interrupts, program
from tttjax.errors import UserError
from tttjax.hosts import listening

_PREFIX = "tttjax/"
_START_SECONDS = 300
_FAREWELL_SECONDS = 5
_HOUR_MS = 3_600_000
_PIECE = 1 << 20  # bytes of one message
_StoreError = jax.errors.JaxRuntimeError


class Peers:
  """The other processes of a program whose jax.distributed is initialized.

  Args:
    seconds: how long one may be silent before the others end.
  """

  def __init__(self, seconds: float):
    from orbax.checkpoint import multihost  # takes a second that one process need not wait for

    self.rank, self.count, self._seconds = jax.process_index(), jax.process_count(), seconds
    self._client = multihost.get_jax_distributed_client()
    self._ended, self._saying = threading.Event(), threading.Lock()
    self._meetings: dict[str, int] = {}  # by name, how many there were
    self._hosts: dict[int, str] = {}
    self._put(f"host/{self.rank}", socket.gethostname())
    self.meet("", "", None, "start", _START_SECONDS)
    self._hosts = self._numbered("host")
    _die_slowly()
    self._threads = [
      threading.Thread(target=work, name="hosts", daemon=True)
      for work in (self._beat, self._hear_stop, self._hear_end)
    ]
    for thread in self._threads:
      thread.start()
    address = distributed.global_state.coordinator_address
    if self.rank and (connection := listening.connect(address, seconds)):
      threading.Thread(
        target=self._see_end_of_first, args=(connection, address), name="hosts", daemon=True
      ).start()

  def named(self, rank: int) -> str:
    """'process 1 of 2 (node7)'."""
    host = self._hosts.get(rank)
    return f"process {rank} of {self.count}" + (f" ({host})" if host else "")

  def meet(
    self, text: str, what: str, ranks: Sequence[int] | None, name: str, seconds: float
  ) -> None:
    """As `tttjax.hosts.together`."""
    ranks = list(range(self.count) if ranks is None else ranks)
    if len(ranks) == 1:
      return
    self._meetings[name] = number = self._meetings.get(name, 0) + 1
    # Who is ahead is at the next meeting at most, and says something there before all have read.
    said_at = f"{name}/says-{number % 2}"
    with self._store():
      self._put(f"{said_at}/{self.rank}", text, again=True)
      self._put(f"{name}/came/{self.rank}", str(number), again=True)
    try:
      self._client.wait_at_barrier(_PREFIX + name, int(seconds * 1000), ranks)
    except _StoreError as error:
      self._missed(error, name, number, ranks, seconds)
    with self._store():
      said = self._numbered(said_at)
    odd = [rank for rank in ranks if said[rank] != said[ranks[0]]]
    if odd:
      raise UserError(
        f"{self.named(ranks[0])} and {self.named(odd[0])} differ in {what}: give all processes the"
        " same command, files and versions of the software"
      )

  def _missed(self, error: Exception, name: str, number: int, ranks, seconds: float) -> None:
    with self._store():
      came = self._numbered(f"{name}/came")
    missing = [rank for rank in ranks if int(came.get(rank, 0)) < number]
    if missing:
      names = " and ".join(map(self.named, missing))
      self._end(f"{names}: waited for {seconds:.0f} seconds", interrupts.RESTART)
    self._end(f"the processes did not meet: {' '.join(str(error).split())}", interrupts.RESTART)

  def send(self, name: str, data: bytes) -> None:
    """Gives `data` to process 0; a name is used once."""
    packed = zlib.compress(data)
    pieces = [packed[i : i + _PIECE] for i in range(0, len(packed), _PIECE)]
    with self._store():
      for number, piece in enumerate(pieces):
        self._client.key_value_set_bytes(f"{_PREFIX}data/{name}/{number}", piece)
      self._put(f"data/{name}/pieces", str(len(pieces)))

  def received(self, name: str) -> bytes | None:
    """What was sent by this name, once; None where it has not come yet."""
    key, get = f"{_PREFIX}data/{name}", self._client.key_value_try_get_bytes
    with self._store():
      try:
        number = int(self._client.key_value_try_get(f"{key}/pieces"))
      except _StoreError as error:
        if "NOT_FOUND" not in str(error):
          raise
        return None
      packed = b"".join(get(f"{key}/{i}") for i in range(number))
      self._client.key_value_delete(f"{key}/")
    return zlib.decompress(packed)

  def from_writer(self, name: str, data: bytes | None) -> bytes:
    """What process 0 gives as `data`, on every process; a name is used once."""
    if self.rank == 0:
      self.send(name, data)
    else:
      key = f"{_PREFIX}data/{name}"
      with self._store():
        number = int(self._client.blocking_key_value_get(f"{key}/pieces", _HOUR_MS))
        get = self._client.key_value_try_get_bytes
        data = zlib.decompress(b"".join(get(f"{key}/{i}") for i in range(number)))
    self.meet("", "", None, "from_writer", _HOUR_MS / 1000)
    if self.rank == 0:
      self._client.key_value_delete(f"{_PREFIX}data/{name}/")
    return data

  def finish(self) -> None:
    """Ends the threads; to be called after a meeting of all."""
    self._ended.set()
    with contextlib.suppress(_StoreError):  # those that the threads wait for; another may be first
      self._put("stop", "")
    with contextlib.suppress(_StoreError):
      self._put("end", "")
    for thread in self._threads:
      thread.join(_FAREWELL_SECONDS)

  def stop(self) -> None:
    """Asks all processes to finish what they have in hand, and to end."""
    with contextlib.suppress(_StoreError):
      self._put("stop", "asked")

  def announce(self, reason: str, code: int) -> None:
    """Tells the others that they are to end."""
    self._ended.set()
    with contextlib.suppress(_StoreError):  # another was first, or process 0 is gone
      self._put("end", json.dumps({"reason": reason, "code": code}))
    self._leave_last()

  def _end(self, reason: str, code: int) -> None:
    """Says why to the others, and ends this process."""
    if not self._ended.is_set():
      _line(f"{reason}; ended{interrupts.remark()}")
      self.announce(reason, code)
    else:  # another thread is at it
      time.sleep(2 * _FAREWELL_SECONDS)
    files.remove_unfinished()
    os._exit(code)

  def _leave_last(self) -> None:
    """On process 0, which has the store, waits a little until the others have heard."""
    with contextlib.suppress(_StoreError):
      self._put(f"ended/{self.rank}", "", again=True)
      until = time.monotonic() + _FAREWELL_SECONDS
      while self.rank == 0 and time.monotonic() < until:
        if len(self._numbered("ended")) == self.count:
          time.sleep(0.1)  # they end
          return
        time.sleep(0.05)

  def _beat(self) -> None:
    signs: dict[int, tuple[str, float]] = {}
    for beat in range(sys.maxsize):
      try:
        self._put(f"alive/{self.rank}", str(beat), again=True)
        found = self._numbered("alive") if self.rank == 0 else {}
      except _StoreError:
        return  # process 0 is gone: the thread that waits for an end says so
      now = time.monotonic()
      for rank, sign in found.items():
        if signs.get(rank, ("", now))[0] != sign:
          signs[rank] = sign, now
      silent = [rank for rank, (_, last) in signs.items() if now - last > self._seconds]
      if silent and not self._ended.is_set():
        names = " and ".join(map(self.named, silent))
        self._end(f"{names}: not heard of for {self._seconds:.0f} seconds", interrupts.RESTART)
      if self._ended.wait(self._seconds / 6):
        return

  def _hear_stop(self) -> None:
    if self._heard("stop"):
      interrupts.ask()

  def _hear_end(self) -> None:
    text = self._heard("end")
    if text is None:
      self._first_is_gone()
    if self._ended.is_set() or text == "":
      return  # this one's own, or a good one
    self._ended.set()
    told = json.loads(text)
    if not interrupts.asked():  # which says so itself
      _line(f"ended with the others: {told['reason']}")
    self._leave_last()
    files.remove_unfinished()
    os._exit(told["code"])

  def _see_end_of_first(self, connection: socket.socket, address: str) -> None:
    """As `_hear_end`, but asks the system instead of the store.

    Where process 0 is gone, jax's thread that brings what the store answers is busy with aborting
    this process: a wait for an answer may never end.
    """
    if listening.wait_for_end(connection, address, self._seconds, self._ended):
      self._first_is_gone()

  def _first_is_gone(self) -> None:
    with self._saying:  # two threads may hear of it
      if not self._ended.is_set():
        self._ended.set()
        _line(f"{self.named(0)} is gone; ended{interrupts.remark()}")
        files.remove_unfinished()
        os._exit(interrupts.RESTART)

  def _heard(self, key: str) -> str | None:
    """What is put at `key`, once it is; None where process 0 is gone, or this one has ended."""
    while not self._ended.is_set():
      try:
        return self._client.blocking_key_value_get(_PREFIX + key, _HOUR_MS)
      except _StoreError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
          break
    return None

  def _put(self, key: str, text: str, again: bool = False) -> None:
    self._client.key_value_set(_PREFIX + key, text, allow_overwrite=again)

  def _numbered(self, folder: str) -> dict[int, str]:
    found = self._client.key_value_dir_get(f"{_PREFIX}{folder}/")
    return {int(key.rpartition("/")[2]): text for key, text in found}

  @contextlib.contextmanager
  def _store(self) -> Iterator[None]:
    """Within the block an error means that process 0 is gone, and with it the store."""
    try:
      yield
    except _StoreError as error:
      time.sleep(_FAREWELL_SECONDS)  # the thread that waits for an end says it better
      reason = " ".join(str(error).split())
      self._end(f"{self.named(0)} does not answer: {reason}", interrupts.RESTART)


def _die_slowly() -> None:
  """An abort takes effect after six seconds.

  Where process 0 is gone, jax aborts the others at once, whatever they want to say and do. In this
  time the thread that hears of it too ends the process, with a line and an exit code of its own.
  """
  libc = ctypes.CDLL(None)
  libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
  # As a handler, sleep gets the signal's number: 6. A handler in Python would run too late.
  libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


def _line(text: str) -> None:
  os.write(2, f"{program.name()}: {text}\n".encode())
