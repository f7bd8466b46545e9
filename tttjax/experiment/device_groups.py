"""The mesh of a run in groups along its data axis: each works on contexts of its own."""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import itertools
import math

import jax
import numpy as np

from tttjax import hosts
from tttjax.errors import UserError
from tttjax.experiment.work_units import Place
from tttjax.sharding import make_mesh

_LATE_SECONDS = 600  # after which one of them is not slower, but stuck


@dataclasses.dataclass(frozen=True)
class Group:
  """Devices that work on one context at a time.

  Attributes:
    number, of: which of how many groups.
    mesh: its devices; None is the default one.
    ranks: the processes that its devices belong to; the first of them reports its rows.
  """

  number: int
  of: int
  mesh: jax.sharding.Mesh | None
  ranks: tuple[int, ...] = (0,)

  @property
  def alone(self) -> bool:
    """Whether nothing else is to be waited for: one group, one process."""
    return self.of == 1 and hosts.count() == 1

  def share(self, places: Iterable[Place]) -> Iterator[Place]:
    """The places that are this group's, whatever has been done before."""
    return itertools.islice(places, self.number, None, self.of)

  def agree(self, text: str, what: str) -> None:
    """As hosts.together, among the processes of this group.

    They compute the same at the same time: one that does not come waits for what never happens.
    """
    hosts.together(text, what, self.ranks, f"group-{self.number}", _LATE_SECONDS)


def groups_of(sizes: Mapping[str, int]) -> tuple[Group, ...]:
  """The groups of config.mesh: devices by axis.

  Raises:
    UserError: it needs more or fewer devices than there are, or leaves some processes without one.
  """
  if jax.process_count() != hosts.count():
    raise UserError(
      f"this program has {jax.process_count()} processes that met without tttjax: call"
      " tttjax.hosts.initialize() instead of jax.distributed.initialize()"
    )
  total = math.prod(sizes.values())
  if total == 1 and hosts.count() > 1:
    raise UserError(
      f"config.mesh has one device for {hosts.count()} processes; give all {jax.device_count()},"
      f" such as --config.mesh.data={jax.device_count()} (contexts side by side)"
    )
  if total == 1:
    return (Group(0, 1, None),)
  try:
    mesh = make_mesh(**sizes)
  except UserError as error:
    raise UserError(f"config.mesh: {error}") from None
  parts = np.split(mesh.devices, mesh.shape["data"])
  return tuple(
    Group(
      number,
      len(parts),
      jax.sharding.Mesh(part, mesh.axis_names, axis_types=mesh.axis_types),
      tuple(sorted({device.process_index for device in part.flat})),
    )
    for number, part in enumerate(parts)
  )


def check_batch(groups: Iterable[Group], batch: int) -> None:
  """Raises UserError where a group cannot work on `batch` contexts at a time."""
  if batch > 1 and any(len(group.ranks) > 1 for group in groups):
    raise UserError(  # their threads would not call programs in the same order everywhere
      f"config.batch_contexts={batch}: the devices of a context belong to several processes, which"
      " work on one at a time; give config.batch_contexts=1, or raise config.mesh.data"
    )
