"""The schedulers that a sweep may be handed to, and the flags of each."""

from collections.abc import Sequence
import pathlib

from absl import flags

from launch import run, state
from launch.backend import Scheduler
from launch.cells import Cell
from launch.gke import Gke
from launch.jobset import JobSet
from launch.slurm import Slurm
from tttjax.errors import UserError
from tttjax.files import user_path

LOCAL = "local"
_BACKEND = flags.DEFINE_enum(
  "backend",
  LOCAL,
  [LOCAL, "slurm", "gke", "jobset"],
  "processes of this machine; jobs of SLURM; workloads of XPK; JobSets of a Kubernetes cluster",
)
_SBATCH = flags.DEFINE_multi_string(
  "sbatch", [], "slurm: an option of sbatch for every cell, e.g. --sbatch=--gpus=8; repeatable"
)
_XPK = flags.DEFINE_multi_string(
  "xpk", [], "gke: an option of xpk workload create, e.g. --xpk=--tpu-type=v5litepod-16; repeatable"
)
_POD = flags.DEFINE_string("pod", None, "jobset: a YAML file, a PodSpec with one container")
_NODES = flags.DEFINE_integer("nodes", 1, "jobset: pods of each cell, one process in each")
_QUEUE = flags.DEFINE_string("queue", "", "jobset: a queue of Kueue")
_JOBS = flags.DEFINE_integer(
  "jobs",
  None,
  "cells at a time; local: 1, more share the cores or the accelerator; slurm: what the queue gives",
)
# Which backend each flag is for.
_OWNERS = {"sbatch": "slurm", "xpk": "gke", "pod": "jobset", "nodes": "jobset", "queue": "jobset"}


def local_jobs() -> int | None:
  """Cells at a time of a local launcher; None where a scheduler takes them.

  Raises:
    UserError: flags that are not for this backend, or that it needs.
  """
  backend = _BACKEND.value
  for name, owner in _OWNERS.items():
    if flags.FLAGS[name].present and owner != backend:
      raise UserError(f"--{name} is for --backend={owner}; leave it out, or give that")
  if _JOBS.value is not None and _JOBS.value < 1:
    raise UserError(f"--jobs={_JOBS.value} must be at least 1")
  if _JOBS.value is not None and backend in ("gke", "jobset"):
    raise UserError(f"--jobs is not for --backend={backend}, whose queue decides; leave it out")
  if _NODES.value < 1:
    raise UserError(f"--nodes={_NODES.value} must be at least 1")
  if backend == "jobset" and not _POD.value:
    raise UserError("--backend=jobset needs --pod=FILE; docs/running/kubernetes.md has one")
  return _JOBS.value or 1 if backend == LOCAL else None


def scheduler(directory: pathlib.Path, cells: Sequence[Cell]) -> Scheduler:
  """The one that the flags name.

  Raises:
    UserError: an option that it refuses.
  """
  environment = run.compiled_programs(directory)
  logs = [state.log_file(directory, cell) for cell in cells]
  if _BACKEND.value == "slurm":
    return Slurm(directory, _SBATCH.value, _JOBS.value or 0, environment)
  submitted = state.read_manifest(directory) is not None
  if _BACKEND.value == "gke":
    return Gke(logs, _XPK.value, environment, submitted)
  pod = user_path(_POD.value, "--pod")
  return JobSet(logs, pod, _NODES.value, _QUEUE.value, environment, submitted)
