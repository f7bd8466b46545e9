"""The flags that XLA compiles the tests' programs with."""

from importlib import metadata


def flags(devices: int) -> dict[str, str]:
  """So many forced CPU devices, and quick compiles, which are most of the suite's time.

  Without LLVM's optimising and XLA's newer emitters of fusions they took a quarter of the time in
  tests/test_strategies.py. What computes much, as a real model does, runs slower.
  """
  chosen = {
    "xla_force_host_platform_device_count": str(devices),
    "xla_backend_optimization_level": "0",
  }
  if metadata.version("jaxlib").startswith("0.10."):  # later: no other, an error
    chosen["xla_cpu_use_fusion_emitters"] = "false"
  return chosen


def text(devices: int) -> str:
  """Of a process of its own: what XLA_FLAGS should hold."""
  return " ".join(f"--{name}={value}" for name, value in flags(devices).items())
