"""Cells on any Kubernetes cluster with the JobSet controller: one JobSet each.

What a cluster asks of its pods (image, devices, node selectors, volumes) is in a file of the
user's, a PodSpec with one container; a cell adds its command, and what makes several pods one run.
"""

from collections.abc import Mapping, Sequence
import copy
import pathlib
import shlex
from typing import Any

import yaml

from launch.backend import MOST_RESTARTS, Job
from launch.commands import output_of
from launch.kubernetes import GRACE_SECONDS, JobSets, in_pods, name_of
from tttjax.errors import UserError

_BACKEND = "jobset"
_PORT = 8476
_GROUP = "cell"
# What starting again does not mend: no result, a user's mistake, Ctrl-C.
_FINAL_EXIT_CODES = [1, 2, 130]


class JobSet:
  """Implements `launch.backend.Scheduler`.

  Args:
    logs: of all cells of the sweep.
    pod: a YAML file with a PodSpec of one container.
    nodes: pods of each cell, one process in each.
    queue: of Kueue; '' for none.
    environment: variables of every cell.
    submitted: whether cells may be there already.

  Raises:
    UserError: the file is no such PodSpec.
  """

  def __init__(
    self,
    logs: Sequence[pathlib.Path],
    pod: pathlib.Path,
    nodes: int,
    queue: str,
    environment: Mapping[str, str],
    submitted: bool,
  ):
    self._logs, self._nodes, self._queue, self._environment = logs, nodes, queue, environment
    self._pod, self._jobsets = _read(pod), JobSets(_BACKEND, submitted)

  def under_way(self, log: pathlib.Path) -> str | None:
    return self._jobsets.under_way(log)

  def script(self, jobs: Sequence[Job]) -> str:
    return yaml.safe_dump_all([self._manifest(job) for job in jobs], sort_keys=False)

  def submit(self, jobs: Sequence[Job]) -> str:
    output_of(_BACKEND, "kubectl", "apply", "--filename=-", given=self.script(jobs))
    self._jobsets.forget()
    return f"{len(jobs)} cells are JobSets of their own"

  def cancel(self) -> int:
    return self._jobsets.cancel(self._logs)

  def _manifest(self, job: Job) -> dict[str, Any]:
    name, pod = name_of(job), copy.deepcopy(self._pod)
    line = f"exec {shlex.join(in_pods(job.command, self._environment))}"
    if self._nodes > 1:  # pod i of a JobSet is found by this name
      line += (
        f" --coordinator={name}-{_GROUP}-0-0.{name}:{_PORT} --num_processes={self._nodes}"
        ' --process_id="$JOB_COMPLETION_INDEX"'
      )
    (container,) = pod["containers"]
    container["command"] = ["/bin/sh", "-c", line]
    pod |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": GRACE_SECONDS}
    queue = {"labels": {"kueue.x-k8s.io/queue-name": self._queue}} if self._queue else {}
    return {
      "apiVersion": "jobset.x-k8s.io/v1alpha2",
      "kind": "JobSet",
      "metadata": {"name": name, **queue},
      "spec": {
        "network": {"enableDNSHostnames": True, "subdomain": name},
        "failurePolicy": {
          "maxRestarts": MOST_RESTARTS,
          "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
        },
        "replicatedJobs": [
          {
            "name": _GROUP,
            "replicas": 1,
            "template": {
              "spec": {
                "parallelism": self._nodes,
                "completions": self._nodes,
                "completionMode": "Indexed",
                "backoffLimit": 0,
                "podFailurePolicy": {
                  "rules": [
                    {
                      "action": "FailJob",
                      "onExitCodes": {"operator": "In", "values": _FINAL_EXIT_CODES},
                    }
                  ]
                },
                "template": {"spec": pod},
              }
            },
          }
        ],
      },
    }


def _read(path: pathlib.Path) -> dict[str, Any]:
  try:
    pod = yaml.safe_load(path.read_text(encoding="utf-8"))
  except OSError as error:
    raise UserError(f"--pod={path}: {error.strerror}; give a YAML file") from None
  except (yaml.YAMLError, UnicodeDecodeError) as error:
    raise UserError(f"--pod={path}: no YAML ({' '.join(str(error).split())[:200]})") from None
  containers = pod.get("containers") if isinstance(pod, Mapping) else None
  one = isinstance(containers, list) and len(containers) == 1
  if not one or not isinstance(containers[0], Mapping) or "image" not in containers[0]:
    raise UserError(f"--pod={path}: give a PodSpec with one container, of an image")
  return dict(pod)
