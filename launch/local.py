"""Cells as processes of this machine."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import fcntl
import os
import pathlib
import shlex
import signal
import subprocess
import time

from launch.backend import RUNNING

# A signal is lost between a process's start and its own handler, or while a device hangs.
_INTERRUPTS, _SECONDS_BETWEEN = 6, 10.0


class Local:
  """Implements `launch.backend.Backend`; a handle is a `subprocess.Popen`.

  Every process holds a lock on its log for as long as it lives. The system releases
  it at the process's end, however that comes, so a launcher that is killed leaves
  no stale mark behind, and the next one sees which processes are still at work.
  """

  def submit(
    self, command: Sequence[str], log: pathlib.Path, environment: Mapping[str, str]
  ) -> subprocess.Popen:
    """Starts the process in a session of its own, which a terminal's Ctrl-C does not reach.

    The launcher passes Ctrl-C on through `cancel`; twice at once would interrupt the
    process while it saves.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      file.write(f"$ {shlex.join(command)}\n".encode())
      file.flush()
      with _interrupts_heard():
        return subprocess.Popen(
          command,
          stdin=subprocess.DEVNULL,
          stdout=file,
          stderr=subprocess.STDOUT,
          env={**os.environ, **environment},
          start_new_session=True,
        )

  def poll(self, handle: subprocess.Popen) -> int | None:
    return handle.poll()

  def cancel(self, handles: Sequence[subprocess.Popen]) -> None:
    """SIGINT to all, so that they flush; SIGKILL after a minute or at a second Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
      for _ in range(_INTERRUPTS):
        _signal(handles, signal.SIGINT)
        deadline = time.monotonic() + _SECONDS_BETWEEN
        with contextlib.suppress(subprocess.TimeoutExpired):
          for handle in handles:
            handle.wait(max(deadline - time.monotonic(), 0))
          return
    _signal(handles, signal.SIGKILL)
    for handle in handles:
      handle.wait()

  def under_way(self, log: pathlib.Path) -> str | None:
    try:
      with open(log, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
      return None
    except BlockingIOError:
      return RUNNING
    return None


@contextlib.contextmanager
def _interrupts_heard() -> Iterator[None]:
  """Processes started within get SIGINT's default.

  A shell that starts a program with & may have it ignore SIGINT, and children inherit that: they
  would be deaf to `cancel`. A handler they do not inherit.
  """
  ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
  if ignored:
    signal.signal(signal.SIGINT, lambda number, frame: None)
  try:
    yield
  finally:
    if ignored:
      signal.signal(signal.SIGINT, signal.SIG_IGN)


def _signal(handles: Sequence[subprocess.Popen], number: int) -> None:
  """To each process and those that it started; the session's leader names the group."""
  for handle in handles:
    if handle.poll() is None:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(handle.pid, number)
