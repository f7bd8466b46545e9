"""Compiles for a TPU topology ahead of time, on a machine without a TPU, and reads the memory."""

import os
import re

import jax
from jax.experimental import topologies

from tttjax.errors import UserError
from tttjax.plan.abstract_programs import Program
from tttjax.plan.chips import GIB, Topology

# libtpu asks a cloud that is not there, and logs that it does not answer.
_QUIET = {
  "TPU_SKIP_MDS_QUERY": "1",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_ACCELERATOR_TYPE": "v5p-8",
  "TPU_MIN_LOG_LEVEL": "3",
  "TPU_STDERR_LOG_LEVEL": "3",
  "TPU_LOG_DIR": "disabled",
}
_TOO_LARGE = re.compile(r"memory required for .*?\(([\d.]+)([KMG])\) exceeds available HBM")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": GIB}


def devices_of(topology: Topology) -> list[jax.Device]:
  """The topology's devices, to compile for.

  Raises:
    UserError: libtpu, the compiler, is not installed.
  """
  for name, value in _QUIET.items():
    os.environ.setdefault(name, value)
  one_host = {"chips_per_host_bounds": (1, 1, 1)} if topology.chips == 1 else {}
  try:
    return topologies.get_topology_desc(str(topology), platform="tpu", **one_host).devices
  except (RuntimeError, NotImplementedError) as error:
    raise UserError(
      f"{topology} is planned by compiling for it, which needs libtpu: pip install"
      f" 'tttjax[tpu-aot]' ({str(error).splitlines()[0]})"
    ) from None


def memory(program: Program) -> int:
  """Bytes of a device that the compiled program needs at its peak."""
  try:
    found = program.lower().compile().memory_analysis()
  except jax.errors.JaxRuntimeError as error:
    too_large = _TOO_LARGE.search(str(error))
    if too_large is None:
      raise
    return int(float(too_large[1]) * _UNITS[too_large[2]])
  size = lambda part: getattr(found, f"{part}_size_in_bytes")
  return size("argument") + size("output") - size("alias") + size("temp")
