"""Several processes that run as one: who takes part, which GPUs are whose, and runs of main."""

import json
import os
import pathlib
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests import tiny_run, xla_flags
from tttjax import hosts, interrupts
from tttjax.errors import UserError
from tttjax.hosts import allocation, listening

ROOT = pathlib.Path(__file__).resolve().parent.parent
_SECONDS = 300
_STEP = {"SLURM_JOB_ID": "5", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "1"}
# How a run went, not what it found.
_NOT_RESULTS = ("seconds", "compiled")


@pytest.mark.parametrize(
  "environ, number",
  [
    ({}, 1),
    ({"JAX_PLATFORMS": "cpu", "TPU_WORKER_HOSTNAMES": "a,b"}, 1),
    ({"SLURM_JOB_ID": "5", "SLURM_NTASKS": "4"}, 1),  # the batch script, outside of a step
    ({**_STEP, "SLURM_NTASKS": "4"}, 4),
    # The shell of salloc, a step of one task.
    ({**_STEP, "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, 1),
    ({**_STEP, "SLURM_NTASKS": "1", "JAX_PLATFORMS": "cpu"}, 1),
    ({"OMPI_COMM_WORLD_SIZE": "8", "JAX_PLATFORMS": "cuda"}, 8),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, 1),
    ({"TPU_WORKER_HOSTNAMES": "a,b", "MEGASCALE_NUM_SLICES": "2"}, 4),
    ({"TPU_PROCESS_ADDRESSES": "a:1,b:1,c:1", "JAX_PLATFORMS": "tpu,cpu"}, 3),
    ({"TPU_SKIP_MDS_QUERY": "1"}, 1),
  ],
)
def test_number_of_processes_that_a_scheduler_started(environ, number):
  assert allocation.scheduled_processes(environ) == number


@pytest.mark.parametrize(
  "environ, devices",
  [
    ({}, []),
    # One process on a node has all of its GPUs; jax alone would give it one.
    ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}, []),
    (
      {
        "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
        "SLURM_LOCALID": "2",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
      },
      [2],
    ),
    (
      {
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_LOCALID": "1",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
      },
      [2, 3],
    ),
    # Each task is bound to its own.
    (
      {
        "SLURM_STEP_TASKS_PER_NODE": "4",
        "SLURM_LOCALID": "3",
        "SLURM_GPUS_PER_TASK": "1",
        "CUDA_VISIBLE_DEVICES": "0",
      },
      [],
    ),
    (
      {
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        "OMPI_COMM_WORLD_LOCAL_RANK": "0",
        "CUDA_VISIBLE_DEVICES": "4,5",
      },
      [0],
    ),
    ({"JAX_LOCAL_DEVICE_IDS": "1,3", "SLURM_STEP_TASKS_PER_NODE": "1"}, [1, 3]),
  ],
)
def test_gpus_of_a_process_are_those_of_its_allocation(environ, devices):
  assert allocation.local_devices(environ) == devices


def test_gpus_that_cannot_be_shared_evenly_are_refused():
  environ = {"SLURM_STEP_TASKS_PER_NODE": "3", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
  with pytest.raises(UserError, match="3 processes on this node cannot share its 4 GPUs"):
    allocation.local_devices(environ)


def test_steps_of_one_job_meet_at_ports_of_their_own():
  ports = set()
  for step in range(20):
    environ = {"SLURM_JOB_ID": "123456", "SLURM_STEP_ID": str(step)}
    allocation.choose_port(environ)
    ports.add(int(environ["JAX_COORDINATOR_PORT"]))
  assert len(ports) == 20 and all(61440 <= port < 65536 for port in ports)
  given = {"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "JAX_COORDINATOR_PORT": "7000"}
  allocation.choose_port(given)
  assert given["JAX_COORDINATOR_PORT"] == "7000"


@pytest.mark.parametrize(
  "arguments, words",
  [
    ((None, 2, None), "--process_id is missing"),
    ((None, None, 1), "--num_processes is missing"),
    ((None, 2, 1), "--coordinator is missing"),
    (("host", 2, 1), "--coordinator=host: give HOST:PORT"),
    (("host:1", 2, 2), "numbered from 0"),
  ],
)
def test_arguments_that_do_not_make_sense_together(arguments, words, monkeypatch):
  monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
  with pytest.raises(UserError, match=re.escape(words)):
    hosts.initialize(*arguments)


def test_alone_there_is_nobody_to_wait_for():
  assert (hosts.rank(), hosts.count(), hosts.is_writer()) == (0, 1, True)
  hosts.together("this", "what")
  assert hosts.from_writer("name", b"data") == b"data"
  hosts.finish()


def test_who_listens_may_hang_up_and_is_gone_once_nobody_listens():
  over, heard = threading.Event(), queue.Queue()
  server = socket.create_server(("localhost", 0))
  address = f"localhost:{server.getsockname()[1]}"
  first = listening.connect(address, 60)
  wait = lambda: heard.put(listening.wait_for_end(first, address, 60, over))
  threading.Thread(target=wait, daemon=True).start()
  for _ in range(2):
    connection, _ = server.accept()
    connection.sendall(b"a greeting")
    connection.close()
  connection, _ = server.accept()
  assert heard.empty()
  server.close()
  connection.close()
  assert heard.get(timeout=10) is True
  assert listening.connect(address, 60) is None


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  directory = tmp_path_factory.mktemp("checkpoint")
  tiny_run.write(directory)
  return directory


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


def free_port():
  with socket.socket() as s:
    s.bind(("localhost", 0))
    return s.getsockname()[1]


def start(checkpoint, workdir, cache, processes=1, devices=1, timeout=60, **fields):
  """`processes` of main with so many devices each."""
  port = free_port()
  values = {
    "models": checkpoint,
    "lengths": 128,
    "contexts": 4,
    "questions": 2,
    "ttt.steps": 2,
    "ttt.span": 8,
    "sampling.max_new_tokens": 4,
    "strategies": "in_context,qttt",
    **{name.replace("__", "."): value for name, value in fields.items()},
  }
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": xla_flags.text(devices=devices),
    "TTTJAX_CACHE": str(cache),
  }
  apart = lambda i: [
    f"--coordinator=localhost:{port}",
    f"--num_processes={processes}",
    f"--process_id={i}",
    f"--host_timeout={timeout}",
  ]
  return [
    subprocess.Popen(
      [
        sys.executable,
        "-m",
        "tttjax.main",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in values.items()),
        *(apart(i) if processes > 1 else ()),
      ],
      cwd=ROOT,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(processes)
  ]


def ended(workers):
  """(exit codes, errors, outputs) of processes that are waited for."""
  try:
    texts = [worker.communicate(timeout=_SECONDS) for worker in workers]
  finally:
    for worker in workers:
      worker.kill()
  return [worker.returncode for worker in workers], *zip(*(text[::-1] for text in texts))


def rows(workdir):
  """By key, without how the run went."""
  path = next(pathlib.Path(workdir).glob("samples_*.jsonl"))
  found = {}
  for line in path.read_text(encoding="utf-8").splitlines():
    row = json.loads(line)
    key = tuple(row[k] for k in ("task", "strategy", "length", "seed", "context", "question"))
    assert key not in found
    found[key] = {k: v for k, v in row.items() if k not in _NOT_RESULTS}
  return found


@pytest.fixture(scope="module")
def one(checkpoint, cache, tmp_path_factory):
  """The rows of one process with one device."""
  workdir = tmp_path_factory.mktemp("one")
  codes, errors, _ = ended(start(checkpoint, workdir, cache))
  assert codes == [0], errors
  return rows(workdir)


@pytest.mark.parametrize(
  "processes, devices",
  [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow), pytest.param(4, 1, marks=pytest.mark.slow)],
)
def test_contexts_side_by_side_give_the_rows_of_one_process(
  checkpoint, cache, one, tmp_path, processes, devices
):
  workers = start(checkpoint, tmp_path, cache, processes, devices, mesh__data=processes * devices)
  codes, errors, outputs = ended(workers)
  assert codes == [0] * processes, errors
  assert rows(tmp_path) == one
  assert (tmp_path / "report.html").is_file()
  assert "qTTT" in outputs[0] and not any(outputs[1:])  # process 0 alone says something
  assert not any(re.search("Traceback|rror", error) for error in errors), errors


_FROM_PYTHON = """
import json, sys
from tests import tiny_run
from tttjax import hosts
from tttjax.experiment import run
port, rank, checkpoint, folder = sys.argv[1:]
hosts.initialize(f"localhost:{port}", 2, int(rank))
for contexts in (1, 3):
  config = tiny_run.config(checkpoint, contexts=(contexts,), mesh__data=2)
  found = run(config, f"{folder}/run")
  with open(f"{folder}/{contexts}_{rank}.json", "w") as file:
    json.dump(found.rows, file)
hosts.finish()
"""


def test_a_run_from_python_has_all_rows_on_every_process(checkpoint, tmp_path):
  """Those of a continued run too, in one order."""
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": xla_flags.text(devices=1),
    "PYTHONPATH": str(ROOT),
  }
  port = free_port()
  arguments = [[str(port), str(rank), str(checkpoint), str(tmp_path)] for rank in range(2)]
  codes, errors, _ = ended(
    [
      subprocess.Popen(
        [sys.executable, "-c", _FROM_PYTHON, *own],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      for own in arguments
    ]
  )
  assert codes == [0, 0], errors
  (path,) = (tmp_path / "run").glob("samples_*.jsonl")
  written = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
  for contexts in (1, 3):
    first, second = (json.loads((tmp_path / f"{contexts}_{i}.json").read_text()) for i in range(2))
    assert first == second == written[: len(first)]
    assert {row["context"] for row in first} == set(range(contexts))
  assert len(first) == len(written)


def close(got, wanted):
  """Whether two rows hold the same, floats within 1e-4 of the larger one."""
  if isinstance(wanted, dict):
    return got.keys() == wanted.keys() and all(close(got[k], wanted[k]) for k in wanted)
  if isinstance(wanted, list):
    return len(got) == len(wanted) and all(map(close, got, wanted))
  if isinstance(wanted, float):
    return got == pytest.approx(wanted, rel=1e-4, abs=1e-6)
  return got == wanted


def test_one_context_split_over_two_processes_gives_the_same_answers(
  checkpoint, cache, one, tmp_path
):
  codes, errors, _ = ended(start(checkpoint, tmp_path, cache, 2, mesh__context=2))
  assert codes == [0, 0], errors
  found = rows(tmp_path)
  assert found.keys() == one.keys()
  for key, row in found.items():  # spans and predictions too
    assert close(row, one[key]), key


def wait_for_rows(workdir, number, workers):
  until = time.monotonic() + _SECONDS
  while time.monotonic() < until and all(worker.poll() is None for worker in workers):
    path = next(pathlib.Path(workdir).glob("samples_*.jsonl"), None)
    if path and path.read_bytes().count(b"\n") >= number:
      return
    time.sleep(0.02)


@pytest.mark.parametrize(
  "axis, killed", [("data", 1), pytest.param("context", 0, marks=pytest.mark.slow)]
)
def test_when_a_process_is_killed_the_others_say_which_and_the_same_command_continues(
  checkpoint, cache, one, tmp_path, axis, killed
):
  command = checkpoint, tmp_path, cache, 2
  fields = {f"mesh__{axis}": 2, "timeout": 10}
  workers = start(*command, **fields, contexts=16)
  wait_for_rows(tmp_path, 3, workers)
  workers[killed].send_signal(signal.SIGKILL)
  began = time.monotonic()
  codes, errors, _ = ended(workers)
  assert time.monotonic() - began < 25
  assert codes[killed] == -signal.SIGKILL
  other = 1 - killed
  assert f"process {killed} of 2 (" in errors[other], errors[other]
  assert codes[other] == interrupts.RESTART
  assert killed == 1 or "is gone; ended" in errors[other]
  assert ("the same command continues" in errors[other]) == (other == 0)  # it has the rows
  begun = rows(tmp_path)
  assert len(begun) >= 3
  codes, errors, _ = ended(start(*command, **fields, contexts=16))
  assert codes == [0, 0], errors
  assert begun.items() <= rows(tmp_path).items()


_BUSY = """
import sys
from tttjax import hosts
hosts.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
print("begun", flush=True)
while True: pass
"""


def test_when_process_0_is_killed_the_last_line_says_so_whatever_jax_says_before():
  """jax aborts the others, in a thread that also brings what they wait for; so it is done twice."""
  for _ in range(2):
    port = free_port()
    workers = [
      subprocess.Popen(
        [sys.executable, "-c", _BUSY, str(port), str(rank)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags.text(devices=1)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      for rank in range(2)
    ]
    for worker in workers:
      assert worker.stdout.readline() == "begun\n"
    workers[0].kill()
    codes, errors, _ = ended(workers)
    assert codes == [-signal.SIGKILL, interrupts.RESTART], errors
    last = errors[1].splitlines()[-1]
    assert re.fullmatch(r"-c: process 0 of 2 \(.*\) is gone; ended", last), errors


@pytest.mark.slow
def test_a_process_that_is_stuck_is_named(checkpoint, cache, tmp_path):
  workers = start(checkpoint, tmp_path, cache, 2, timeout=10, mesh__data=2, contexts=200)
  wait_for_rows(tmp_path, 3, workers)
  workers[1].send_signal(signal.SIGSTOP)
  error = workers[0].communicate(timeout=60)[1]
  workers[1].kill()
  workers[1].communicate()
  assert workers[0].returncode == interrupts.RESTART
  assert re.search(
    r"process 1 of 2 \(.*\): not heard of for 10 seconds; ended with \d+ rows", error
  )


def test_sigterm_leaves_all_processes_time_for_their_units(checkpoint, cache, tmp_path):
  """Also where one of them alone hears it; rows of both are kept, and both ask for a restart."""
  workers = start(checkpoint, tmp_path, cache, 2, mesh__data=2, contexts=400)
  wait_for_rows(tmp_path, 6, workers)
  workers[1].send_signal(signal.SIGTERM)
  codes, errors, _ = ended(workers)
  assert codes == [interrupts.RESTART] * 2, errors
  assert errors[0].rstrip().endswith("the same command continues") and "terminated" in errors[0]
  found = rows(tmp_path)
  for key, row in found.items():  # whole units
    asked = range(min(2, row["doc"]["questions"]))
    assert all((*key[:-1], question) in found for question in asked)


def test_a_mistake_of_one_process_ends_all(checkpoint, cache, tmp_path):
  """Process 0 alone opens the work directory."""
  (tmp_path / "run").write_text("a file")
  codes, errors, _ = ended(start(checkpoint, tmp_path / "run", cache, 2, mesh__data=2))
  assert codes == [2, 2], errors
  assert "main.py: error: --workdir=" in errors[0]
  assert "main.py: ended with the others: --workdir=" in errors[1]


@pytest.mark.slow
def test_processes_of_different_settings_are_refused(checkpoint, cache, tmp_path):
  one = start(checkpoint, tmp_path, cache, 2, mesh__data=2)
  for worker in one:
    worker.kill()
    worker.communicate()
  arguments = [list(worker.args) for worker in one]
  arguments[1] = [a.replace("ttt.steps=2", "ttt.steps=3") for a in arguments[1]]
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags.text(devices=1)}
  codes, errors, _ = ended(
    [
      subprocess.Popen(
        own, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
      )
      for own in arguments
    ]
  )
  assert codes == [2, 2], errors
  assert "differ in their settings" in errors[0] + errors[1]
  assert not list(tmp_path.iterdir())


def test_processes_without_a_mesh_of_all_devices_are_told_what_to_give(checkpoint, cache, tmp_path):
  codes, errors, _ = ended(start(checkpoint, tmp_path, cache, 2))
  assert codes == [2, 2]
  assert "config.mesh has one device for 2 processes; give all 2, such as" in errors[0]
