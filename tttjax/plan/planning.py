"""The plan of a topology, and the smallest topology that fits."""

from collections.abc import Iterator, Sequence
import dataclasses

import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType

from tttjax.models.decoder import Decoder
from tttjax.models.decoder_config import DecoderConfig
from tttjax.plan import compiled
from tttjax.plan.abstract_programs import Program, programs
from tttjax.plan.chips import Topology
from tttjax.plan.planned_work import Work
from tttjax.plan.roofline import Ideal, ideal
from tttjax.sharding import AXES, make_mesh

# Of a GPU's memory, for what its programs hold for a time: they cannot be compiled without one.
_GPU_RESERVE = 0.1


@dataclasses.dataclass(frozen=True)
class PhasePlan:
  """One phase on one device.

  Attributes:
    name: prefill, adapt or generate.
    ideal: its FLOPs, and the seconds that the chips' peaks allow.
    held: bytes by kind: weights, cache, fast weights (in adapt with their optimizer's moments).
    total: bytes at the peak: compiled for a TPU; for a GPU what is held and a tenth of its memory.
  """

  name: str
  ideal: Ideal
  held: dict[str, int]
  total: int

  @property
  def rest(self) -> int:
    """Bytes of temporaries, tokens and what alignment adds."""
    return self.total - sum(self.held.values())


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a topology makes of the work.

  Attributes:
    topology, work: which.
    mesh: devices by axis, of the axes with more than one.
    phases: in their order.
  """

  topology: Topology
  work: Work
  mesh: dict[str, int]
  phases: tuple[PhasePlan, ...]

  @property
  def tightest(self) -> PhasePlan:
    """The phase that needs the most memory."""
    return max(self.phases, key=lambda phase: phase.total)

  @property
  def spare(self) -> int:
    """Bytes of a device that are left in the tightest phase; negative where it does not fit."""
    return self.topology.device.memory - self.tightest.total

  @property
  def fits(self) -> bool:
    return self.spare >= 0


def plan(work: Work, topology: Topology, attention: str = "auto") -> Plan:
  """Compiles the phases for a TPU topology, or adds up what a GPU holds.

  Args:
    attention: the kernels, as of `Decoder`.

  Raises:
    UserError: a TPU, and libtpu is not installed.
  """
  sizes = mesh_sizes(work.architecture, topology.devices)
  device = topology.device
  seconds = ideal(work, topology)
  phases = []
  for name, program in _programs(work, topology, sizes, attention).items():
    if device.is_tpu:
      total = compiled.memory(program)
    else:
      total = sum(program.held.values()) + int(_GPU_RESERVE * device.memory)
    phases.append(PhasePlan(name, seconds[name], program.held, total))
  shown = {axis: size for axis, size in sizes.items() if size > 1}
  return Plan(topology, work, shown, tuple(phases))


def smallest(work: Work, candidates: Sequence[Topology], attention: str = "auto") -> Iterator[Plan]:
  """Plans of the candidates, the smallest first, up to the first that fits.

  Those that cannot hold weights, cache and fast weights alone are passed over.
  """
  for topology in candidates:
    if least(work, topology) > topology.device.memory:
      continue
    found = plan(work, topology, attention)
    yield found
    if found.fits:
      return


def least(work: Work, topology: Topology) -> int:
  """Bytes of weights, cache and fast weights on a device, nothing else."""
  sizes = mesh_sizes(work.architecture, topology.devices)
  model = Decoder(work.architecture, jnp.bfloat16, _abstract_mesh(sizes))
  return max(sum(program.held.values()) for program in programs(model, work).values())


def mesh_sizes(architecture: DecoderConfig, devices: int) -> dict[str, int]:
  """As many devices as the KV heads allow split the heads, the others the context."""
  tensor = 1
  while devices % (2 * tensor) == 0 and architecture.num_key_value_heads % (2 * tensor) == 0:
    tensor *= 2
  return {"data": 1, "fsdp": 1, "tensor": tensor, "context": devices // tensor}


def _programs(
  work: Work, topology: Topology, sizes: dict[str, int], attention: str
) -> dict[str, Program]:
  if topology.device.is_tpu:
    mesh = make_mesh(**sizes, devices=compiled.devices_of(topology))
  else:
    mesh = _abstract_mesh(sizes)
  model = Decoder(work.architecture, jnp.bfloat16, mesh, attention=attention)
  return programs(model, work)


def _abstract_mesh(sizes: dict[str, int]) -> AbstractMesh:
  """A mesh of no devices, enough to know what a device would hold."""
  return AbstractMesh(tuple(sizes[axis] for axis in AXES), AXES, axis_types=(AxisType.Auto,) * 4)
