"""What both ways to run cells on Kubernetes share: JobSets, their names, and how far they are.

Every cell is a JobSet called tttjax-HASH-STAMP, where HASH tells the cell, so that the cluster
alone says which cells are under way. The launcher's directory has to be mounted at the same path in
the pods, from a file system that keeps what is appended (NFS, Filestore, Lustre; a bucket may not).
"""

from collections.abc import Mapping, Sequence
import datetime
import hashlib
import json
import pathlib
import re

from launch.backend import QUEUED, RUNNING, Job
from launch.commands import output_of

GRACE_SECONDS = 30  # from SIGTERM to SIGKILL


class JobSets:
  """The JobSets of the current context of kubectl, asked for once.

  Args:
    backend: named in errors.
    submitted: whether cells of the sweep may be there; if not, the cluster is not asked.
  """

  def __init__(self, backend: str, submitted: bool):
    self._backend = backend
    # Of those that have not ended, by name.
    self._phases: dict[str, str] | None = None if submitted else {}

  def under_way(self, log: pathlib.Path) -> str | None:
    """As launch.backend.Watched."""
    return next((phase for name, phase in self._all().items() if _is_of(name, log)), None)

  def cancel(self, logs: Sequence[pathlib.Path]) -> int:
    """Deletes those of these logs; their pods hear SIGTERM."""
    names = [name for name in self._all() if any(_is_of(name, log) for log in logs)]
    if names:
      output_of(self._backend, "kubectl", "delete", "jobset", "--wait=false", *names)
    self._phases = None
    return len(names)

  def forget(self) -> None:
    """Asks again the next time."""
    self._phases = None

  def _all(self) -> dict[str, str]:
    if self._phases is None:
      listed = json.loads(output_of(self._backend, "kubectl", "get", "jobsets", "--output=json"))
      self._phases = {
        item["metadata"]["name"]: QUEUED if item["spec"].get("suspend") else RUNNING
        for item in listed["items"]
        if not _has_ended(item)
      }
    return self._phases


def name_of(job: Job) -> str:
  """The name of a new JobSet for a cell."""
  return f"{_prefix(job.log)}-{datetime.datetime.now():%y%m%d%H%M%S}"


def in_pods(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
  """A cell's command line for the pods: their Python, and files by their whole paths."""
  _, *rest = words
  variables = [f"{name}={value}" for name, value in environment.items()]
  return [*(["env", *variables] if variables else ()), "python", *map(_absolute, rest)]


def _absolute(word: str) -> str:
  """--config and --workdir with whole paths; a config that is not here is one of the image's."""
  match = re.fullmatch(r"(--config|--workdir)=([^:]*)(:.*)?", word)
  path = match and pathlib.Path(match[2]).resolve()
  if not match or match[1] == "--config" and not path.is_file():
    return word
  return f"{match[1]}={path}{match[3] or ''}"


def _prefix(log: pathlib.Path) -> str:
  return f"tttjax-{hashlib.sha256(str(log.resolve()).encode()).hexdigest()[:10]}"


def _is_of(name: str, log: pathlib.Path) -> bool:
  return name.startswith(f"{_prefix(log)}-")


def _has_ended(item) -> bool:
  conditions = item.get("status", {}).get("conditions", [])
  return any(c["type"] in ("Completed", "Failed") and c["status"] == "True" for c in conditions)
