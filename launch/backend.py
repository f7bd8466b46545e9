"""What the launcher asks of a place where cells run."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any, Protocol


class Backend(Protocol):
  """Starts and watches jobs; a handle is opaque to the launcher.

  `launch.local.Local` runs them as processes of this machine. A scheduler's backend
  needs a file system that it shares with the launcher, for logs and work directories.
  """

  def submit(
    self, command: Sequence[str], log: pathlib.Path, environment: Mapping[str, str]
  ) -> Any:
    """Starts `command` with stdout and stderr appended to `log`; returns its handle."""

  def poll(self, handle: Any) -> int | None:
    """Exit code (negative: ended by that signal), or None while the job runs."""

  def cancel(self, handles: Sequence[Any]) -> None:
    """Asks these jobs to stop as Ctrl-C would, and returns when they have ended."""

  def alive(self, log: pathlib.Path) -> bool:
    """Whether a job with this log runs, started by this or by an earlier launcher."""
