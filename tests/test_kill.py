"""A run killed at any moment and started again has the rows of an undisturbed one."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import tiny_run, xla_flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
_KILLS = 20
_STRATEGIES = "in_context,qttt,thinking,qttt_other_context"
# How a run went, not what it found.
_NOT_RESULTS = ("seconds", "compiled")


def command(checkpoint, workdir, **fields):
  fields = {
    "models": checkpoint,
    "lengths": "128,192",
    "contexts": 3,
    "questions": 2,
    "ttt.steps": 2,
    "ttt.span": 8,
    "sampling.max_new_tokens": 4,
    "strategies": _STRATEGIES,
    **{name.replace("__", "."): value for name, value in fields.items()},
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


def starter(folder, **fields):
  """A function that starts a run of these fields in a work directory.

  It runs `prelude` when Python starts, if given, and takes further flags of main.
  """
  checkpoint = folder / "checkpoint"
  tiny_run.write(checkpoint)
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": xla_flags.text(devices=1),
    "TTTJAX_CACHE": str(folder / "cache"),
  }

  def start(workdir, *flags, prelude=""):
    path = folder / f"prelude_{len(list(folder.glob('prelude_*')))}"
    path.mkdir()
    (path / "sitecustomize.py").write_text(prelude)
    return subprocess.Popen(
      [*command(checkpoint, workdir, **fields), *flags],
      cwd=ROOT,
      env={**environment, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)])},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )

  return start


@pytest.mark.parametrize(
  "minutes, pause, contexts",
  [(0.75, (6, 14), 20), pytest.param(30, (20, 60), 4000, marks=pytest.mark.slow)],
  ids=["short", "half_an_hour"],
)
def test_a_soak_of_random_signals_ends_with_the_undisturbed_rows(
  tmp_path, minutes, pause, contexts
):
  """SIGTERM, as a scheduler's, or SIGKILL, at any moment; each time the same command again."""
  start = starter(tmp_path, contexts=contexts)
  chance, codes = random.Random(1), []
  disturbed = tmp_path / "disturbed"
  until = time.monotonic() + 60 * minutes
  while time.monotonic() < until:
    process = start(disturbed)
    number = chance.choice([signal.SIGKILL, signal.SIGTERM])
    try:
      process.wait(chance.uniform(*pause))
    except subprocess.TimeoutExpired:
      process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    codes.append(process.returncode)
    assert codes[-1] in (0, -signal.SIGKILL, 42, -signal.SIGTERM), error
    assert "Traceback" not in error
  last = start(disturbed)
  error = last.communicate()[1]
  assert last.returncode == 0, error
  assert {-signal.SIGKILL, 42} <= set(codes), codes
  plain = start(tmp_path / "plain")
  assert plain.wait() == 0, plain.stderr.read()
  by_key = lambda found: sorted(map(json.dumps, found))
  assert by_key(rows(disturbed)) == by_key(rows(tmp_path / "plain"))


def test_an_adaptation_that_sigterm_interrupts_goes_on_where_it_was(tmp_path):
  """Bit for bit: its losses, and what is answered."""
  steps = 64
  own = {
    "ttt__steps": steps,
    "thinking__budget": 0,
    "questions": 1,
    "strategies": "in_context,qttt",
  }
  start = starter(tmp_path, lengths=128, contexts=1, **own)
  process = start(tmp_path / "interrupted")
  while process.poll() is None and not lines(tmp_path / "interrupted"):
    time.sleep(0.001)
  process.send_signal(signal.SIGTERM)  # the next is an adaptation
  error = process.communicate(timeout=60)[1]
  assert process.returncode == 42, error
  assert lines(tmp_path / "interrupted") == 1
  (kept,) = (tmp_path / "interrupted" / "unfinished").glob("*/1/history.npz")
  with np.load(kept) as history:
    taken = len(history["loss"])
  assert 0 < taken < steps and taken % 16 == 0
  for name in ("interrupted", "plain"):
    process = start(tmp_path / name)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 0, error
  assert not (tmp_path / "interrupted" / "unfinished").exists()
  assert rows(tmp_path / "interrupted") == rows(tmp_path / "plain")
  assert len(rows(tmp_path / "plain")[1]["adaptation"]["loss"]) == steps


# The scheduler's signal comes when the answers are begun, which take `times` as long as they do.
_SIGTERM_WHILE_DECODING = """
import os, signal
from tttjax.session import model_session
decode = model_session.generate
def generate(*arguments, **options):
  os.kill(os.getpid(), signal.SIGTERM)
  for _ in range({times}):
    out = decode(*arguments, **options)
    out.tokens.block_until_ready()
  return out
model_session.generate = generate
"""
_NO_STEP_IS_TAKEN = """
from tttjax.session import resuming
resuming.adapt = None
"""
# 48 of 160 steps, and about 570 tokens of thoughts: greedy, of random weights, they do not end.
_THOUGHTS = {
  "lengths": 128,
  "contexts": 1,
  "questions": 1,
  "ttt__steps": 160,
  "thinking__budget": "matched",
  "strategies": "qttt_thinking(share=0.3)",
}


@pytest.fixture(scope="module")
def thoughtful(tmp_path_factory):
  """(function that starts a run whose answer takes long, the row of an undisturbed one)."""
  folder = tmp_path_factory.mktemp("thoughtful")
  start = starter(folder, **_THOUGHTS)
  plain = start(folder / "plain")
  assert plain.wait() == 0, plain.stderr.read()
  (row,) = rows(folder / "plain")
  assert row["thinking_tokens"] > 500 and len(row["adaptation"]["loss"]) == 48
  return start, row


def test_sigterm_while_answers_are_decoded_loses_no_step(thoughtful, tmp_path):
  """They do not end within the grace: the next start takes no step, and answers the same."""
  start, row = thoughtful
  process = start(tmp_path, "--grace=6", prelude=_SIGTERM_WHILE_DECODING.format(times=10**6))
  error = process.communicate(timeout=120)[1]
  assert process.returncode == 42, error
  assert "with 0 rows" in error and "Traceback" not in error
  (kept,) = tmp_path.glob("unfinished/*/1/history.npz")
  with np.load(kept) as history:
    assert len(history["loss"]) == 48
  process = start(tmp_path, prelude=_NO_STEP_IS_TAKEN)
  error = process.communicate(timeout=300)[1]
  assert process.returncode == 0, error
  assert rows(tmp_path) == [row]
  assert not (tmp_path / "unfinished").exists()


def test_answers_that_end_within_the_grace_are_written_and_nothing_else_is_kept(
  thoughtful, tmp_path
):
  start, row = thoughtful
  process = start(tmp_path, "--grace=120", prelude=_SIGTERM_WHILE_DECODING.format(times=1))
  error = process.communicate(timeout=300)[1]
  assert process.returncode == 42, error
  assert "with 1 rows" in error and rows(tmp_path) == [row]
  assert not list(tmp_path.glob("unfinished/*"))
