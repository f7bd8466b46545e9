"""SIGINT and SIGTERM at any moment: one line, exit code 130 or 42, and rows that are kept."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from tests import synthetic_rows

ROOT = pathlib.Path(__file__).resolve().parent.parent
_CODES = {signal.SIGINT: 130, signal.SIGTERM: 42}


@pytest.fixture(autouse=True)
def interrupts_are_heard():
  """Also where these tests run in the background of a script, which ignores Ctrl-C."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


def start(*command, prelude=None, **variables):
  """A program whose compilations are cold; `prelude` runs when Python starts, if given."""
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **variables}
  for name in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "TTTJAX_CACHE"):
    environment.pop(name, None)
  if prelude is not None:
    environment["PYTHONPATH"] = f"{prelude}{os.pathsep}{ROOT}"
  return subprocess.Popen(
    [sys.executable, "-m", *command],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def start_run(workdir):
  fields = {"lengths": 128, "contexts": 40, "strategies": "in_context", "mechanism": "false"}
  arguments = [f"--config.{name}={value}" for name, value in fields.items()]
  return start("tttjax.main", f"--workdir={workdir}", "--grace=1", *arguments)


def lines(workdir):
  path = next(pathlib.Path(workdir).glob("samples_*.jsonl"), None)
  return path.read_bytes().count(b"\n") if path else 0


def wait_for(process, condition, seconds=180):
  deadline = time.monotonic() + seconds
  while not condition():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.002)


def ended(process, number):
  """Sends the signal; checks the exit code; returns what the program wrote to stderr."""
  process.send_signal(number)
  begin = time.monotonic()
  out, error = process.communicate(timeout=30)
  assert process.returncode == _CODES[number], error
  assert time.monotonic() - begin < 5
  assert out == ""
  return error


# As a module that Python imports before all others: says which modules are being imported, and
# waits there, for what is left may be done before the signal comes.
_SAYS_IMPORTS = """
import os, sys, time
class Finder:
  def find_spec(self, name, path=None, target=None):
    if name == os.environ["NAME"]:
      open(os.environ["SEEN"], "w").close()
      time.sleep(0.5)
sys.meta_path.insert(0, Finder())
"""


def start_until_import(tmp_path, module, *command):
  """The program, at the moment when it begins to import `module`."""
  (tmp_path / "sitecustomize.py").write_text(_SAYS_IMPORTS)
  seen = tmp_path / "seen"
  process = start(*command, prelude=tmp_path, NAME=module, SEEN=seen)
  wait_for(process, seen.exists)
  return process


@pytest.mark.parametrize(
  "module, program, name",
  [
    ("jax", "tttjax.main", "tttjax.main"),
    ("orbax", "tttjax.main", "tttjax.main"),
    ("matplotlib.pyplot", "tttjax.main", "main.py"),
    ("jax", "tttjax.report", "tttjax.report"),
    ("jax", "launch.sweep", "launch.sweep"),
    ("launch.cells", "launch.sweep", "sweep.py"),
  ],
)
def test_interrupt_during_the_imports(tmp_path, module, program, name):
  process = start_until_import(tmp_path, module, program, "runs")
  assert ended(process, signal.SIGINT) == f"{name}: interrupted\n"


def interrupt_before_the_first_row(workdir, seconds):
  """A cold run interrupted so long after it has begun: until its first row it compiles."""
  process = start_run(workdir)
  wait_for(process, lambda: next(pathlib.Path(workdir).glob("samples_*"), None))
  time.sleep(seconds)
  error = ended(process, signal.SIGINT)
  assert re.fullmatch(
    r"main.py: interrupted with 0 rows in \S+; the same command continues\n", error
  )


def test_interrupt_while_it_compiles(tmp_path):
  interrupt_before_the_first_row(tmp_path, 1)


@pytest.mark.slow
def test_interrupts_while_it_compiles_cold_at_many_moments(tmp_path):
  for i in range(20):
    interrupt_before_the_first_row(tmp_path / str(i), 0.5 + 0.1 * i)


def test_termination_while_it_runs_keeps_the_rows(tmp_path):
  process = start_run(tmp_path)
  wait_for(process, lambda: lines(tmp_path) > 0)
  error = ended(process, signal.SIGTERM)
  (path,) = tmp_path.glob("samples_*.jsonl")
  match = re.fullmatch(
    rf"main.py: terminated with (\d+) rows in {path}; the same command continues\n", error
  )
  assert 0 < int(match[1]) == lines(tmp_path)


def test_interrupt_while_the_figures_are_drawn_leaves_no_part_of_one(tmp_path):
  strategies = ("in_context", "qttt", "thinking")
  rows = synthetic_rows.rows(strategies, (256, 512, 1024), contexts=20, questions=4)
  synthetic_rows.write(tmp_path, rows)
  process = start("tttjax.report", str(tmp_path))
  wait_for(process, lambda: next(tmp_path.glob("figures/[!.]*"), None))
  assert ended(process, signal.SIGINT) == "report: interrupted\n"
  for path in (tmp_path / "figures").iterdir():
    assert path.read_bytes().endswith(b"IEND\xaeB`\x82")  # a whole PNG


def test_interrupt_that_the_shell_ignores_is_ignored(tmp_path):
  # As of a command with & in a script, which shares the terminal's Ctrl-C.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  process = start_until_import(tmp_path, "jax", "tttjax.report", str(tmp_path / "nowhere"))
  process.send_signal(signal.SIGINT)
  assert "no such directory" in process.communicate(timeout=60)[1]
  assert process.returncode == 2


def test_import_by_another_program_leaves_its_signals_alone():
  code = (
    "import signal, tttjax; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler;"
    "assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL"
  )
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


_UNITS = """
import signal, sys, time
from tttjax import interrupts
interrupts.install(lambda: "program")
with interrupts.grace(float(sys.argv[1])):
  for unit in range(1000):
    print("begun", unit, flush=True)
    time.sleep(float(sys.argv[2]))
    print("done", unit, flush=True)
    interrupts.pause()
"""


@pytest.mark.parametrize("grace, takes, done", [(20, 1, True), (1, 20, False), (0, 5, False)])
def test_sigterm_leaves_time_to_finish_the_work_in_hand(grace, takes, done):
  process = subprocess.Popen(
    [sys.executable, "-c", _UNITS, str(grace), str(takes)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "begun 0\n"
  process.send_signal(signal.SIGTERM)
  began = time.monotonic()
  out, error = process.communicate(timeout=30)
  assert time.monotonic() - began < 5
  assert (out, error) == ("done 0\n" if done else "", "program: terminated\n")
  assert process.returncode == 42
