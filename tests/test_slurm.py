"""Sweeps on a real SLURM of one node, which the tests start and stop."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

from launch.backend import QUEUED, RUNNING, Job
from launch.slurm import Slurm
from tests import slurm_cluster
from tests.errors import user_error

ROOT = pathlib.Path(__file__).resolve().parent.parent
_CELLS, _CONTEXTS, _SECONDS = 6, 60, 300


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
  if reason := slurm_cluster.why_not():
    pytest.skip(f"NOT TESTED, no SLURM: {reason}")
  one = slurm_cluster.Cluster(tmp_path_factory.mktemp("slurm"), cpus=4)
  try:
    one.start()
    yield one
  finally:
    one.stop()


@pytest.fixture
def slurm(cluster, monkeypatch, tmp_path):
  """A function that makes the scheduler of the sweep in tmp_path / NAME."""
  for name in ("SLURM_CONF", "PATH"):
    monkeypatch.setenv(name, cluster.environment[name])
  monkeypatch.chdir(tmp_path)
  return lambda name="sweep", options=(), at_once=0: Slurm(tmp_path / name, options, at_once, {})


def job(folder, name, command):
  return Job(tuple(command), folder / "logs" / f"{name}.log")


def wait_for(condition, seconds=_SECONDS):
  deadline = time.monotonic() + seconds
  while not (value := condition()):
    assert time.monotonic() < deadline
    time.sleep(0.3)
  return value


# The sweep as a user runs it. ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep(cluster, tmp_path_factory):
  """A function that calls the launcher, in a directory of its own."""
  folder = tmp_path_factory.mktemp("user")
  (folder / "rates.py").write_text(
    "from launch.algebra import sweep\n"
    f"get_sweep = lambda: sweep('seeds', [(n,) for n in range({_CELLS})])\n"
  )
  fields = {
    "lengths": 128,
    "contexts": _CONTEXTS,
    "questions": 1,
    "strategies": "in_context",
    "mechanism": "false",
    "sampling.max_new_tokens": 12,
  }

  def launch(*arguments):
    command = [
      *(sys.executable, "-m", "launch.sweep", "--config=configs/quickstart.py"),
      *("--sweep=rates.py", "--name=seeds", "--backend=slurm", "--sbatch=--cpus-per-task=1"),
      *(f"--config.{name}={value}" for name, value in fields.items()),
    ]
    environment = cluster.environment | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    environment.pop("TTTJAX_CACHE", None)
    return subprocess.run(
      [*command, *arguments],
      cwd=folder,
      env=environment,
      capture_output=True,
      text=True,
      check=False,
    )

  launch.folder = folder / "runs" / "seeds"
  return launch


def states(done):
  """The state of every cell, from the table."""
  assert done.returncode == 0, done.stderr
  return [line.split("  ")[0] for line in done.stdout.splitlines()[1 : _CELLS + 1]]


def test_a_sweep_is_submitted_once_survives_a_requeue_and_is_collected(cluster, sweep):
  dry = sweep("--dry_run")
  assert states(dry) == ["not started"] * _CELLS
  assert "#SBATCH --array=0-5" in dry.stdout and "--config.seeds=5" in dry.stdout
  assert not sweep.folder.exists()
  first = sweep()
  assert first.returncode == 0, first.stderr
  assert f"{_CELLS} cells are array job" in first.stdout
  # One that has written rows is thrown out, as a preempted job is, and begins anew by itself.
  path = wait_for(
    lambda: next((p for p in sweep.folder.glob("seeds=*/samples_*") if p.stat().st_size), None)
  )
  number = int(path.parent.name.partition("=")[2])
  listed = cluster.ask("squeue", "--me", "--array", "--noheader", "--format=%K|%i").splitlines()
  (identity,) = [line.split("|")[1] for line in listed if line.split("|")[0] == str(number)]
  cluster.ask("scontrol", "requeue", identity)
  assert set(states(sweep("--status"))) <= {RUNNING, QUEUED, "done"}
  again = sweep()
  assert again.returncode == 0 and "array job" not in again.stdout
  assert len(list((sweep.folder / "slurm").glob("*.sh"))) == 1
  wait_for(lambda: not cluster.ask("squeue", "--me", "--noheader"))
  assert states(sweep("--status")) == ["done"] * _CELLS
  log = (sweep.folder / "logs" / f"seeds={number}.log").read_text(encoding="utf-8")
  assert log.count("$ ") == 2 and log.rstrip().endswith("launcher: ended with exit code 0")
  for cell in sweep.folder.glob("seeds=*/samples_*"):
    lines = [json.loads(line) for line in cell.read_text(encoding="utf-8").splitlines()]
    assert sorted(row["context"] for row in lines) == list(range(_CONTEXTS))
  collected = sweep("--collect")
  assert collected.returncode == 0, collected.stderr
  assert (sweep.folder / "report" / "report.html").is_file()


def test_cells_of_two_tasks_run_side_by_side_and_each_is_one_run(cluster, sweep):
  """Each task has one device: a mesh of two is that of both processes."""
  (sweep.folder.parents[1] / "two.py").write_text(
    "get_sweep = lambda: [{'seeds': (7,)}, {'seeds': (8,)}]"
  )
  options = "--name=two", "--sweep=two.py", "--sbatch=--ntasks=2", "--config.mesh.data=2"
  submitted = sweep(*options)
  assert submitted.returncode == 0, submitted.stderr
  folder = sweep.folder.parent / "two"
  wait_for(lambda: len(list(folder.glob("seeds=*/samples_*"))) == 2)
  wait_for(lambda: not cluster.ask("squeue", "--me", "--noheader"))
  for cell in (7, 8):
    log = (folder / "logs" / f"seeds={cell}.log").read_text(encoding="utf-8")
    assert log.rstrip().endswith("launcher: ended with exit code 0"), log
    (path,) = (folder / f"seeds={cell}").glob("samples_*")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(row["context"] for row in lines) == list(range(_CONTEXTS))
  jobs = cluster.ask("scontrol", "show", "job").split("\n\n")
  pair = [job for job in jobs if "NumTasks=2" in job]
  assert len(pair) == 2
  starts, ends = (
    [re.search(rf"{name}Time=(\S+)", job)[1] for job in pair] for name in ("Start", "End")
  )
  assert max(starts) < min(ends)  # at the same time, each at a port of its own


# The scheduler by itself, with commands that do nothing. ------------------------------------------


def test_at_most_so_many_run_at_once(slurm, cluster, tmp_path):
  jobs = [job(tmp_path, name, ["sleep", "2"]) for name in "abc"]
  slurm(at_once=1).submit(jobs)
  wait_for(lambda: [slurm().under_way(one.log) for one in jobs].count(RUNNING) == 1)
  assert [slurm().under_way(one.log) for one in jobs].count(QUEUED) == 2
  assert slurm("another").under_way(jobs[0].log) is None
  slurm().cancel()
  wait_for(lambda: not cluster.ask("squeue", "--me", "--noheader"))


def test_a_failure_is_in_its_log_and_the_others_go_on(slurm, tmp_path):
  jobs = [
    job(tmp_path, "good", [sys.executable, "-c", "print('fine')"]),
    job(tmp_path, "bad one", [sys.executable, "-c", "raise SystemExit('it broke, \\'$HOME\\'')"]),
  ]
  slurm().submit(jobs)
  wait_for(lambda: not any(slurm().under_way(one.log) for one in jobs))
  good, bad = (one.log.read_text(encoding="utf-8") for one in jobs)
  assert "fine" in good and good.endswith("launcher: ended with exit code 0\n")
  assert "it broke, '$HOME'" in bad and bad.endswith("launcher: ended with exit code 1\n")


def test_what_is_terminated_is_started_again(slurm, tmp_path):
  """As by a time limit: the program saves, says so by its exit code, and is queued once more."""
  program = "import os, pathlib, sys; p = pathlib.Path('seen'); n = p.exists(); p.touch();"
  command = [sys.executable, "-c", f"{program} print('again', n); sys.exit(0 if n else 42)"]
  (one,) = jobs = [job(tmp_path, "a", command)]
  slurm().submit(jobs)
  ended = lambda: one.log.exists() and "code 0" in one.log.read_text()
  wait_for(ended)
  text = one.log.read_text()
  assert text.index("again False") < text.index("exit code 42") < text.index("again True")


def test_cancelled_jobs_are_interrupted_and_say_so(slurm, tmp_path):
  program = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGINT, lambda *_: sys.exit(130))\n"
    "print('here', flush=True)\n"
    "time.sleep(300)"
  )
  (one,) = jobs = [job(tmp_path, "a", [sys.executable, "-c", program])]
  slurm().submit(jobs)
  wait_for(lambda: one.log.exists() and "\nhere" in one.log.read_text())
  assert slurm().cancel() == 1
  wait_for(lambda: slurm().under_way(one.log) is None)
  assert one.log.read_text().endswith("launcher: ended with exit code 130\n")
  assert slurm().cancel() == 0


def test_what_sbatch_refuses_is_not_under_way_and_is_submitted_later(slurm, tmp_path):
  (one,) = jobs = [job(tmp_path, "a", ["true"])]
  with user_error("--backend=slurm: sbatch failed", "nowhere"):
    slurm(options=("--partition=nowhere",)).submit(jobs)
  assert slurm().under_way(one.log) is None
  slurm().submit(jobs)
  wait_for(lambda: one.log.exists() and "exit code 0" in one.log.read_text())


def test_directories_may_have_spaces(slurm, tmp_path, monkeypatch):
  (tmp_path / "my runs").mkdir()
  monkeypatch.chdir(tmp_path / "my runs")
  (one,) = jobs = [job(tmp_path / "my runs", "a b", ["pwd"])]
  slurm("my runs/sweep").submit(jobs)
  wait_for(lambda: one.log.exists() and "exit code 0" in one.log.read_text())
  assert str(tmp_path / "my runs") in one.log.read_text().splitlines()


# Without any SLURM. -------------------------------------------------------------------------------


@pytest.mark.parametrize(
  "option, words",
  [
    ("--array=1-2", "the launcher sets array itself"),
    ("-J x", "the launcher sets job-name itself"),
    ("--array 1-2", "the launcher sets array itself"),
    ("--output=x", "the launcher sets output itself"),
    ("gpus=8", "give an option of sbatch"),
    ("--time=1\nrm -rf /", "give an option of sbatch"),
  ],
)
def test_options_that_are_the_launchers_are_refused(tmp_path, option, words):
  with user_error("--sbatch=", words):
    Slurm(tmp_path, [option], 0, {})


def test_without_slurm_one_line_says_so(tmp_path, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))
  with user_error("--backend=slurm: there is no command sbatch here"):
    Slurm(tmp_path / "x", [], 0, {}).submit([job(tmp_path, "a", ["true"])])


def test_options_of_slurm_are_refused_without_it(tmp_path):
  for option, words in (("--sbatch=--gpus=1", "--sbatch is for"), ("--cancel", "--cancel is for")):
    done = subprocess.run(
      [sys.executable, "-m", "launch.sweep", "--sweep=x.py", "--name=x", option],
      cwd=tmp_path,
      env=os.environ | {"PYTHONPATH": str(ROOT)},
      capture_output=True,
      text=True,
      check=False,
    )
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
