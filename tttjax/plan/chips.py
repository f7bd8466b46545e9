"""Chips: memory, peaks, and the sizes in which they are rented."""

import dataclasses
import math
import re

from tttjax.errors import UserError

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Device:
  """What jax calls one device.

  Attributes:
    memory: bytes that programs may use.
    flops: bf16 matrix products, FLOP/s, as the vendor states them.
    bandwidth: of its memory, bytes/s, likewise.
    sizes: topologies, smallest first: a TPU slice's grid of chips, or a number of GPUs.
    per_chip: devices of a chip.
  """

  memory: int
  flops: float
  bandwidth: float
  sizes: tuple[str, ...]
  per_chip: int = 1

  @property
  def is_tpu(self) -> bool:
    return any("x" in size for size in self.sizes)


_PLANE = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBE = ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
_GPUS = ("1", "2", "4", "8")

# TPU memory is what the compiler leaves to a program; of a GPU it is what the board has, less what
# the driver and libraries take.
DEVICES = {
  "v5e": Device(int(15.75 * GIB), 197e12, 819e9, _PLANE),
  "v5p": Device(int(95.73 * GIB), 459e12, 2765e9, _CUBE),
  "v6e": Device(int(31.24 * GIB), 918e12, 1640e9, _PLANE),
  "tpu7x": Device(int(94.74 * GIB), 1153.5e12, 3690e9, _CUBE, per_chip=2),
  "a100": Device(78 * GIB, 312e12, 2039e9, _GPUS),
  "h100": Device(78 * GIB, 989e12, 3350e9, _GPUS),
  "h200": Device(138 * GIB, 989e12, 4800e9, _GPUS),
  "b200": Device(176 * GIB, 2250e12, 8000e9, _GPUS),
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """Devices that are rented together.

  Attributes:
    family: a key of DEVICES.
    size: of the family's sizes.
  """

  family: str
  size: str

  @property
  def device(self) -> Device:
    return DEVICES[self.family]

  @property
  def chips(self) -> int:
    return math.prod(map(int, self.size.split("x")))

  @property
  def devices(self) -> int:
    """As jax counts them."""
    return self.chips * self.device.per_chip

  def __str__(self) -> str:
    return f"{self.family}:{self.size}"


def topologies(text: str) -> list[Topology]:
  """What FAMILY:SIZE or FAMILY names: the one, or all of the family, the smallest first.

  Raises:
    UserError: no such family or size.
  """
  family, _, size = text.strip().lower().partition(":")
  if family not in DEVICES:
    raise UserError(
      f"topology {text!r}: choose a family of {', '.join(DEVICES)}, such as v5p:2x2x1"
    )
  sizes = DEVICES[family].sizes
  if not size:
    return [Topology(family, one) for one in sizes]
  if size not in sizes:
    grid = re.fullmatch(r"\d+(x\d+)*", size)
    what = "is none of its sizes" if grid else "is no size"
    raise UserError(f"topology {text!r}: {size} {what}: {', '.join(sizes)}")
  return [Topology(family, size)]
