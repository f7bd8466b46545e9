"""Cells on clusters of Google Kubernetes Engine that XPK made: one workload each."""

from collections.abc import Mapping, Sequence
import pathlib
import shlex

from launch.backend import MOST_RESTARTS, Job
from launch.commands import output_of
from launch.kubernetes import GRACE_SECONDS, JobSets, in_pods, name_of
from tttjax.errors import UserError
from tttjax.interrupts import RESTART

_BACKEND = "gke"
_OWN = (
  *("workload", "command", "restart-on-exit-codes", "max-restarts", "dry-run"),
  *("termination-grace-period-seconds", "output-manifest-file"),
)
# Variables that XPK sets in pods of GPU nodes; without quotes, which would end YAML's of XPK.
_NODES = (
  " --coordinator=$JAX_COORDINATOR_ADDRESS:$JAX_COORDINATOR_PORT --num_processes=$NNODES"
  " --process_id=$NODE_RANK"
)
_NEEDED = ("cluster",), ("tpu-type", "device-type"), ("docker-image", "base-docker-image")


class Gke:
  """Implements `launch.backend.Scheduler`.

  Args:
    logs: of all cells of the sweep.
    options: of `xpk workload create` for every cell, such as '--cluster=C', '--docker-image=I'.
    environment: variables of every cell.
    submitted: whether cells may be there already.

  Raises:
    UserError: an option is not XPK's to take, or one that it needs is missing.
  """

  def __init__(
    self,
    logs: Sequence[pathlib.Path],
    options: Sequence[str],
    environment: Mapping[str, str],
    submitted: bool,
  ):
    names = {option.partition("=")[0].lstrip("-") for option in options}
    for option in options:
      if not option.startswith("--"):
        raise UserError(f"--xpk={option}: give an option of xpk, such as --xpk=--cluster=C")
      if (name := option.partition("=")[0].lstrip("-")) in _OWN:
        raise UserError(f"--xpk={option}: the launcher sets {name} itself; leave it out")
    for wanted in _NEEDED:
      if not names & set(wanted):
        raise UserError(
          f"--backend={_BACKEND} needs --xpk=--{wanted[0]}=...; xpk workload create --help lists"
          " all options"
        )
    self._logs, self._options, self._environment = logs, tuple(options), environment
    self._jobsets = JobSets(_BACKEND, submitted)

  def under_way(self, log: pathlib.Path) -> str | None:
    return self._jobsets.under_way(log)

  def script(self, jobs: Sequence[Job]) -> str:
    return "".join(f"{shlex.join(self._create(job))}\n" for job in jobs)

  def submit(self, jobs: Sequence[Job]) -> str:
    for job in jobs:
      output_of(_BACKEND, *self._create(job))
    self._jobsets.forget()
    return f"{len(jobs)} cells are workloads of their own"

  def cancel(self) -> int:
    return self._jobsets.cancel(self._logs)

  def _create(self, job: Job) -> list[str]:
    return [
      *("xpk", "workload", "create", f"--workload={name_of(job)}"),
      f"--command={self._line(job)}",
      f"--restart-on-exit-codes={RESTART}",
      f"--max-restarts={MOST_RESTARTS}",
      f"--termination-grace-period-seconds={GRACE_SECONDS}",
      *self._options,
    ]

  def _line(self, job: Job) -> str:
    line = shlex.join(in_pods(job.command, self._environment))
    nodes = [option for option in self._options if option.startswith("--num-nodes=")]
    if nodes and nodes[-1] != "--num-nodes=1":
      line += _NODES  # of GPUs; TPU slices tell their processes by themselves
    return line
