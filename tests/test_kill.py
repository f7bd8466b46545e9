"""A run killed at any moment and started again has the rows of an undisturbed one."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from tests import tiny_run

ROOT = pathlib.Path(__file__).resolve().parent.parent
_KILLS = 20
_STRATEGIES = "in_context,qttt,thinking,qttt_other_context"
# How a run went, not what it found.
_NOT_RESULTS = ("seconds", "compiled")


def command(checkpoint, workdir):
  fields = {
    "models": checkpoint,
    "lengths": "128,192",
    "contexts": 3,
    "questions": 2,
    "ttt.steps": 2,
    "ttt.span": 8,
    "sampling.max_new_tokens": 4,
    "strategies": _STRATEGIES,
  }
  return [
    sys.executable,
    "-m",
    "tttjax.main",
    "--config=configs/quickstart.py",
    f"--workdir={workdir}",
    *(f"--config.{name}={value}" for name, value in fields.items()),
  ]


def samples(workdir):
  return next(pathlib.Path(workdir).glob("samples_*.jsonl"), None)


def lines(workdir):
  path = samples(workdir)
  return path.read_bytes().count(b"\n") if path else 0


def rows(workdir):
  return [
    {k: v for k, v in json.loads(line).items() if k not in _NOT_RESULTS}
    for line in samples(workdir).read_text(encoding="utf-8").splitlines()
  ]


@pytest.mark.slow
def test_rows_after_20_kills_equal_those_of_an_undisturbed_run(tmp_path):
  checkpoint = tmp_path / "checkpoint"
  tiny_run.write(checkpoint)
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TTTJAX_CACHE": str(tmp_path / "cache")}
  environment.pop("XLA_FLAGS", None)
  start = lambda workdir: subprocess.Popen(
    command(checkpoint, workdir),
    cwd=ROOT,
    env=environment,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )

  plain = start(tmp_path / "plain")
  assert plain.wait() == 0, plain.stderr.read()

  chance, repaired, counts = random.Random(0), 0, []
  killed = tmp_path / "killed"
  for _ in range(_KILLS):
    process = start(killed)
    # Some rows further, and then at any moment within or after the next unit of work.
    wanted = lines(killed) + chance.randrange(4)
    while process.poll() is None and lines(killed) < wanted:
      time.sleep(0.001)
    time.sleep(chance.random() * (0.05 if wanted else 8))
    process.send_signal(signal.SIGKILL)
    process.wait()
    error = process.stderr.read()
    assert process.returncode in (0, -signal.SIGKILL), error
    repaired += "half-written" in error
    counts.append(lines(killed))
    if counts[-1]:
      # What kills rarely meet: a line that was being written.
      with open(samples(killed), "a", encoding="utf-8") as file:
        file.write('{"doc_id": 1, "do')
  last = start(killed)
  assert last.wait() == 0, last.stderr.read()
  assert len({count for count in counts if count < len(rows(tmp_path / "plain"))}) > 5, counts
  assert repaired
  assert rows(killed) == rows(tmp_path / "plain")
