"""What the machine is, and what it can do: matmul and bandwidth peaks, measured in this run."""

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


def peaks(dtype: jnp.dtype) -> Peaks:
  """Measures both; a large square-like product, and products of one row with large matrices."""
  big = 2048 if jax.default_backend() == "cpu" else 8192
  a, b = jnp.ones((big, big), dtype), jnp.ones((big, 2 * big), dtype)
  matmul = jax.jit(lambda a, b: a @ b)
  flops = 2 * big * big * 2 * big / _best(lambda: matmul(a, b), 12)
  elements = (1 << 28) if jax.default_backend() == "cpu" else (1 << 32)
  elements //= jnp.dtype(dtype).itemsize
  matrix = jnp.ones((elements // 1024, 1024), dtype)
  row = jnp.ones((1024,), dtype)
  matvec = jax.jit(lambda m, r: m @ r)
  seconds = _best(lambda: matvec(matrix, row), 12)
  summed = jax.jit(lambda m: m.sum())
  seconds = min(seconds, _best(lambda: summed(matrix), 12))
  return Peaks(flops, matrix.nbytes / seconds)


def _best(action, number: int) -> float:
  """The shortest of so many runs: a peak is what nothing disturbed."""
  action().block_until_ready()
  found = []
  for _ in range(number):
    begin = time.perf_counter()
    action().block_until_ready()
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
