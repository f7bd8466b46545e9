"""What the launcher asks of a place where cells run."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any, Protocol

RUNNING, QUEUED = "running", "queued"
MOST_RESTARTS = 50  # of a cell that asks for it again and again


class Watched(Protocol):
  """Any place: it knows which jobs are under way, whoever started them."""

  def under_way(self, log: pathlib.Path) -> str | None:
    """RUNNING or QUEUED for the job with this log, None where there is none (any more)."""


class Backend(Watched, Protocol):
  """Starts jobs and watches them to their ends; a handle is opaque to the launcher.

  `launch.local.Local` runs them as processes of this machine.
  """

  def submit(
    self, command: Sequence[str], log: pathlib.Path, environment: Mapping[str, str]
  ) -> Any:
    """Starts `command` with stdout and stderr appended to `log`; returns its handle."""

  def poll(self, handle: Any) -> int | None:
    """Exit code (negative: ended by that signal), or None while the job runs."""

  def cancel(self, handles: Sequence[Any]) -> None:
    """Asks these jobs to stop as Ctrl-C would, and returns when they have ended."""


@dataclasses.dataclass(frozen=True)
class Job:
  """What a scheduler is to run for one cell.

  Attributes:
    command: the cell's command line.
    log: where stdout and stderr go, and how it ended as `launch.state.record_end` writes it.
  """

  command: tuple[str, ...]
  log: pathlib.Path


class Scheduler(Watched, Protocol):
  """Takes jobs that run later, without a launcher that waits for them.

  It needs a file system that it shares with the launcher, for logs and work directories.
  """

  def script(self, jobs: Sequence[Job]) -> str:
    """What `submit` would hand over, as a person reads it; writes and starts nothing."""

  def submit(self, jobs: Sequence[Job]) -> str:
    """Hands the jobs over; returns where to look, in words.

    Raises:
      UserError: the scheduler is not there, or refuses.
    """

  def cancel(self) -> int:
    """Ends every job of this sweep that waits or runs, as Ctrl-C would; returns how many."""
