"""Whole processes: from `python -m` to the first answer, and loading a checkpoint."""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

_ROOT = pathlib.Path(__file__).resolve().parent.parent
# Prints seconds and the process's peak memory in bytes.
_LOAD_OURS = """
import resource, time, jax
import tttjax as tt
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = time.perf_counter()
jax.block_until_ready(tt.from_pretrained({path!r}))
print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
_LOAD_TORCH = """
import resource, time, torch
from transformers import AutoModelForCausalLM
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained({path!r}, dtype=torch.{dtype})
sum(p.sum().item() for p in model.parameters())  # what is mapped is read
print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@dataclasses.dataclass(frozen=True)
class Loading:
  """Seconds, and how many bytes the process's peak memory grew by."""

  seconds: float
  memory: int


def first_answers() -> dict[str, float]:
  """Seconds of `python -m tttjax.ask` on a short text: nothing compiled before, and warm."""
  with tempfile.TemporaryDirectory() as folder:
    text = pathlib.Path(folder) / "log.txt"
    lines = (f"[{i:04d}] DEPOSIT  Account A{i % 9}: +{i}; balance {1000 + i}\n" for i in range(40))
    text.write_text("".join(lines), encoding="utf-8")
    command = [
      "-m",
      "tttjax.ask",
      f"--context={text}",
      "--question=Balance of A3?",
    ]
    environment = os.environ | {"TTTJAX_CACHE": str(pathlib.Path(folder) / "cache")}
    return {name: _run(command, environment)[0] for name in ("cold", "warm")}


def loading(directory: pathlib.Path, dtype: str) -> dict[str, Loading]:
  """Of the checkpoint, by tttjax and by transformers; the files have been read before."""
  found = {}
  for name, code in (("tttjax", _LOAD_OURS), ("transformers", _LOAD_TORCH)):
    program = ["-c", code.format(path=str(directory), dtype=dtype)]
    _run(program, os.environ)
    _, printed = _run(program, os.environ)
    seconds, kilobytes = re.findall(r"[\d.e+-]+", printed.strip().splitlines()[-1])
    found[name] = Loading(float(seconds), int(kilobytes) * 1024)
  return found


def _run(arguments: list[str], environment) -> tuple[float, str]:
  begin = time.perf_counter()
  done = subprocess.run(
    [sys.executable, *arguments],
    cwd=_ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  seconds = time.perf_counter() - begin
  if done.returncode:
    raise RuntimeError(
      f"{' '.join(arguments[:2])} ended with {done.returncode}: {done.stderr[-500:]}"
    )
  return seconds, done.stdout
