"""What the machine is, and what it can do: matmul and bandwidth peaks, measured in this run."""

from collections.abc import Callable
import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import time

import jax
import jax.numpy as jnp

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "transformers", "peft")


@dataclasses.dataclass(frozen=True)
class Peaks:
  """The best that was seen: FLOP/s of a matrix product, bytes/s read from memory."""

  flops: float
  bandwidth: float

  def best(self, other: "Peaks") -> "Peaks":
    """What either saw."""
    return Peaks(max(self.flops, other.flops), max(self.bandwidth, other.bandwidth))


def describe() -> dict[str, str]:
  """Processor or accelerator, its number, and the versions of what is compared."""
  versions = {}
  for name in _PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  device = jax.devices()[0]
  kind = device.device_kind if device.platform != "cpu" else _processor()
  return {
    "device": kind,
    "number": str(len(jax.devices()) if device.platform != "cpu" else _cores()),
    "python": platform.python_version(),
    **versions,
  }


def peaks(dtype: str) -> Peaks:
  """Measures both: products of large matrices, by jax and by torch, and reads of a large array."""
  cpu = jax.default_backend() == "cpu"
  size = 2048 if cpu else 8192
  a, b = jnp.ones((size, size), dtype), jnp.ones((size, 2 * size), dtype)
  product = jax.jit(lambda a, b: a @ b)
  seconds = _best(lambda: product(a, b).block_until_ready())
  if cpu:
    with contextlib.suppress(ImportError):
      import torch

      c, d = (torch.ones(x.shape, dtype=getattr(torch, dtype)) for x in (a, b))
      seconds = min(seconds, _best(lambda: c @ d))
  array = jnp.ones(((1 << 26) if cpu else (1 << 30),), jnp.float32)
  total = jax.jit(lambda x: x.sum())
  reading = _best(lambda: total(array).block_until_ready())
  return Peaks(4 * size**3 / seconds, array.nbytes / reading)


def _best(action: Callable[[], object], number: int = 12) -> float:
  """The shortest of so many runs: a peak is what nothing disturbed."""
  action()
  found = []
  for _ in range(number):
    begin = time.perf_counter()
    action()
    found.append(time.perf_counter() - begin)
  return min(found)


def _cores() -> int:
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
  info = pathlib.Path("/proc/cpuinfo")
  if not info.exists():
    return platform.processor()
  lines = info.read_text(encoding="utf-8").splitlines()
  names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.machine()
