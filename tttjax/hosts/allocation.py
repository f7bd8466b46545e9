"""What a scheduler says of the processes that it started: how many, their devices, a port."""

from collections.abc import Mapping
import glob
import importlib.util
import re

from tttjax.errors import UserError

_PORTS = 4096, 61440  # how many, and the first: above what systems hand out by themselves


def scheduled_processes(environ: Mapping[str, str]) -> int | None:
  """How many processes a scheduler started; 1 where none did, None where jax has to ask."""
  number = lambda name: int(environ[name]) if environ.get(name, "").isdecimal() else 1
  if all(name in environ for name in ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID")):
    # The shell of an interactive allocation is a step of one task, with SLURM_NTASKS of the job.
    return number("SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS")
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
