"""Sweeps: the algebra, names and command lines of cells, and running them as processes."""

import contextlib
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import types

from absl import flags as absl_flags
import pytest

from launch import algebra, local, run, state
from launch import cells as planning
from launch import sweep as launcher
from launch.backend import RUNNING
from launch.cells import Cell
from launch.local import Local
from tests import tiny_run, xla_flags
from tests.errors import user_error
from tttjax import flags
from tttjax.experiment import run_fields

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Stands in for tttjax.main: appends rows, resumes, flushes on Ctrl-C, writes results last.
_STUB = """
import os, pathlib, sys, time
directory, rows, seconds, fails = pathlib.Path(sys.argv[1]), *map(float, sys.argv[2:5])
directory.mkdir(parents=True, exist_ok=True)
samples = directory / 'samples_1.jsonl'
begin = time.time()
(directory / 'cache').write_text(
    os.environ.get('TTTJAX_CACHE') or os.environ['JAX_COMPILATION_CACHE_DIR'])
try:
  with open(samples, 'a') as file:
    while file.tell() < 3 * rows:
      file.write('{}\\n')
      file.flush()
      time.sleep(seconds)
      if fails:
        raise ValueError('the disk is green')
except KeyboardInterrupt:
  (directory / 'flushed').touch()
  sys.exit(130)
(directory / 'results_1.json').write_text('{}')
with open(directory / 'times', 'a') as file:
  print(begin, time.time(), file=file)
"""


@pytest.fixture
def stub(tmp_path):
  """A function: the command maker of cells of 3 rows, `seconds` each, some of which fail."""
  path = tmp_path / "stub.py"
  path.write_text(_STUB)

  def make(seconds=0.0, failing=()):
    return lambda cell, workdir: [
      sys.executable,
      str(path),
      str(workdir),
      "3",
      str(seconds),
      str(int(cell.slug in failing)),
    ]

  return make


def make_cells(*slugs):
  return [Cell(slug, {}, (), 3, 1) for slug in slugs]


def statuses(directory, cells):
  return [state.read(directory, cell, Local()).status for cell in cells]


def wait_for(condition, seconds=20):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline, "waited too long"
    time.sleep(0.02)


# Algebra.


def test_product_is_every_combination_and_the_last_varies_fastest():
  result = algebra.product(
    algebra.sweep("a", (1, 2)), algebra.fixed({"b": "x"}), algebra.sweep("c.d", (3, 4))
  )
  assert result == [
    {"a": 1, "b": "x", "c.d": 3},
    {"a": 1, "b": "x", "c.d": 4},
    {"a": 2, "b": "x", "c.d": 3},
    {"a": 2, "b": "x", "c.d": 4},
  ]


def test_zipped_pairs_cells():
  result = algebra.zipped(algebra.sweep("a", (1, 2)), algebra.sweep("b", (3, 4)))
  assert result == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]


def test_chain_keeps_order_and_drops_repeated_cells():
  result = algebra.chain(
    algebra.sweep("a", (1, 2)), algebra.sweep("a", (2, 3)), algebra.fixed({"b": 1})
  )
  assert result == [{"a": 1}, {"a": 2}, {"a": 3}, {"b": 1}]


def test_operations_leave_their_arguments_alone():
  first, second = algebra.sweep("a", (1,)), algebra.sweep("b", (2,))
  for result in (
    algebra.product(first, second),
    algebra.zipped(first, second),
    algebra.chain(first, second),
  ):
    result[0]["c"] = 0
  assert (first, second) == ([{"a": 1}], [{"b": 2}])


@pytest.mark.parametrize(
  "build, message",
  [
    (lambda a, b: algebra.product(a, b, a), "product: a is set by two"),
    (lambda a, b: algebra.zipped(a, a), "zipped: a is set by two"),
    (lambda a, b: algebra.zipped(a, b), r"sweeps of [2, 1] cells"),
    (lambda a, b: algebra.sweep("a", ()), "has no values"),
    (lambda a, b: algebra.sweep("a", (1, 2, 1)), "gives 1 twice"),
    (lambda a, b: algebra.sweep("a", "qttt"), "give a list of values"),
  ],
)
def test_mistake_in_a_sweep_is_named(build, message):
  with user_error(message):
    build(algebra.sweep("a", (1, 2)), algebra.sweep("b", (1,)))


# Cells.


def test_slug_is_readable_and_a_function_of_the_values_alone():
  overrides = {
    "ttt.steps": 8,
    "strategies": ("qttt", "qttt_other_context"),
    "ttt.learning_rate": 3e-4,
    "mechanism": True,
  }
  expected = "mechanism=true__strategies=qttt+qttt_other_context__lr=0.0003__steps=8"
  assert planning.slug(overrides) == expected
  assert planning.slug(dict(reversed(overrides.items()))) == expected
  assert planning.slug({}) == "base"


def test_cells_are_called_by_what_they_differ_in():
  cells = [
    Cell("a", {"ttt.steps": 8, "strategies": ("qttt", "thinking"), "seeds": (0,)}, (), 3, 1),
    Cell("b", {"ttt.steps": 16, "strategies": ("qttt",), "seeds": (0,)}, (), 3, 1),
    Cell("c", {"ttt.steps": 16, "seeds": (0,)}, (), 3, 1),
  ]
  assert planning.labels(cells) == {
    "a": "ttt.steps=8, strategies=qttt + thinking",
    "b": "ttt.steps=16, strategies=qttt",
    "c": "ttt.steps=16",
  }
  assert planning.labels(cells[1:2]) == {"b": "base"}


def test_slugs_are_safe_distinct_and_bounded():
  values = [
    {"strategies": ("qttt(spans=oracle, steps=3)",)},
    {"strategies": ("qttt(spans=oracle",)},
    {"strategies": ("qttt", "thinking")},
    {"strategies": ("qttt+thinking",)},
    {"models": ("/a/b",)},
    {"models": ("/a-b",)},
    {"models": ("/a b",)},
    {"models": ("é",)},
    {"thinking.forced_stop": "\n</think>"},
    {"thinking.forced_stop": ""},
    {"thinking.forced_stop": "x__steps=3"},
    {"thinking.forced_stop": "x", "ttt.steps": 3},
    {"strategies": tuple(f"qttt_{i}" for i in range(40))},
    {"strategies": tuple(f"qttt_{i}" for i in range(41))},
  ]
  slugs = [planning.slug(value) for value in values]
  assert len(set(slugs)) == len(values)
  assert all(re.fullmatch(r"[A-Za-z0-9._=+-]{1,100}", slug) for slug in slugs)


@pytest.mark.parametrize(
  "field, value",
  [
    ("text", "matched"),
    ("text", ""),
    ("text", "it's\n</think>, so"),
    ("text", "--config.whole=1"),
    ("whole", -3),
    ("number", 3e-7),
    ("number", 1 / 3),
    ("flag", False),
    ("flag", True),
    ("wholes", (128,)),
    ("wholes", (128, 256)),
    ("numbers", (1e-5, 0.25)),
    ("texts", ("a",)),
    ("texts", ("in_context", "qttt(learning_rate=0.0003, spans=oracle)")),
    ("texts", ("qttt(learning_rate=0.0003, spans=oracle)",)),
    ("texts", ("qttt(a=1)", "qttt(a=1, b=2)")),
    ("either", 64),
    ("either", "paper"),
  ],
)
def test_value_arrives_through_the_command_line(tmp_path, field, value):
  (tmp_path / "config.py").write_text(
    "import ml_collections\n"
    "def get_config():\n"
    '  return ml_collections.ConfigDict(dict(text="t", whole=1, number=0.5, flag=True,\n'
    '      wholes=(1, 2), numbers=(0.5,), texts=("x", "y"),\n'
    '      either=ml_collections.FieldReference("matched", field_type=object)))\n'
  )
  argument = f"--config.{field}={planning.as_text(value)}"
  arrived = flags.parse(["program", argument], str(tmp_path / "config.py"))[field]
  assert (arrived, type(arrived)) == (value, type(value))


@pytest.fixture
def tiny_config(tmp_path, monkeypatch):
  """The path of a config of four fields, every one of which passes the check."""
  path = tmp_path / "tiny.py"
  path.write_text(
    "import ml_collections\n"
    "def get_config():\n"
    '  return ml_collections.ConfigDict(dict(workdir="w", steps=1, rate=0.5, names=("a",)))\n'
  )
  monkeypatch.setattr(planning.run_config, "check", lambda c: types.SimpleNamespace(config=c))
  monkeypatch.setattr(
    planning.run_size,
    "estimate",
    lambda plan: types.SimpleNamespace(rows=7, flops=100 * plan.config.steps),
  )
  return str(path)


def test_plan_gives_arguments_rows_and_flops(tiny_config):
  (cell,) = planning.plan(tiny_config, {"rate": 0.25}, [{"steps": 3, "names": ["b", "c"]}])
  assert cell == Cell(
    "names=b+c__steps=3",
    {"steps": 3, "names": ("b", "c")},
    (f"--config={tiny_config}", "--config.rate=0.25", "--config.steps=3", "--config.names=b,c"),
    7,
    300,
  )


def test_slugs_do_not_change_when_cells_are_added(tiny_config):
  few = planning.plan(tiny_config, {}, algebra.sweep("steps", (2, 4)))
  more = planning.plan(tiny_config, {}, algebra.sweep("steps", (1, 2, 3, 4)))
  assert {cell.slug for cell in few} < {cell.slug for cell in more}


def test_one_is_the_same_cell_as_one_point_zero(tiny_config):
  assert (
    planning.plan(tiny_config, {}, [{"rate": 1}])[0].slug
    == planning.plan(tiny_config, {}, [{"rate": 1.0}])[0].slug
  )


def test_a_value_with_a_comma_arrives(tiny_config):
  (cell,) = planning.plan(tiny_config, {}, [{"names": ("a,b", "c")}])
  assert cell.overrides == {"names": ("a,b", "c")}


@pytest.mark.parametrize(
  "sweep, words",
  [
    ([{"steps": 2}, {"stpes": 3}], ("cell {stpes=3}: --config.stpes: no such field", "steps?")),
    ([{"steps": 1.5}], ("--config.steps=1.5: expected a whole number",)),
    ([{"steps": None}], ("give a number, a text",)),
    ([{"names": ("a\0",)}], ("give a number, a text",)),
    ([{"workdir": "x"}], ("the launcher sets it",)),
    ([{"steps": 2}, {"steps": 2, "rate": 0.5}], ("steps=2 and rate=0.5__steps=2", "remove one")),
  ],
)
def test_wrong_cell_is_named(tiny_config, sweep, words):
  with user_error(*words):
    planning.plan(tiny_config, {}, sweep)


@pytest.mark.parametrize(
  "text, message",
  [
    ("x = 1", "no function get_sweep"),
    ("def get_sweep(:", "SyntaxError"),
    ("def get_sweep(): return 1", "must return a list of dicts"),
    ("def get_sweep(): return []", "returned no cells"),
    ("def get_sweep(): return [{1: 2}]", "1 is no field"),
    ("def get_sweep(): return [{'steps': 10**5000}]", "a value cannot be written"),
    ('from launch import algebra\ndef get_sweep(): return algebra.sweep("a", ())', "no values"),
  ],
)
def test_broken_sweep_file_is_named(tmp_path, text, message):
  path = tmp_path / "broken.py"
  path.write_text(text)
  with user_error(f"--sweep={path}", message):
    planning.load_sweep(str(path))


def test_home_directory_of_a_sweep_file_is_expanded(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "two.py").write_text("def get_sweep(): return [{'a': 1}]")
  assert planning.load_sweep("~/two.py") == [{"a": 1}]
  with user_error("--sweep=~nobody9/two.py: no such user"):
    planning.load_sweep("~nobody9/two.py")


# Running.


def test_every_cell_runs_and_a_second_run_does_nothing(stub, tmp_path):
  cells = make_cells("a", "b", "c")
  run.run(cells, tmp_path, Local(), 2, stub(), 0.01)
  assert statuses(tmp_path, cells) == [state.DONE] * 3
  assert launcher.missing(tmp_path, cells, Local()) == []
  assert launcher.finish(tmp_path, cells, Local()) == 0


def test_progress_names_the_log_and_counts_rows(stub, tmp_path, capsys):
  cells = make_cells("a", "b")
  run.run(cells, tmp_path, Local(), 1, stub(0.3), 0.01, report_seconds=0.05)
  out = capsys.readouterr().out
  assert f"[1/2] a\n    log: {tmp_path / 'logs' / 'a.log'}\n" in out
  assert re.search(r"^a: \d of 3 rows after \d+ s$", out, re.M) and "b: done after" in out


@pytest.mark.parametrize("jobs", [1, 2])
def test_at_most_so_many_jobs_at_a_time(stub, tmp_path, jobs):
  cells = make_cells("a", "b", "c", "d")
  run.run(cells, tmp_path, Local(), jobs, stub(0.1), 0.01)
  spans = [tuple(map(float, (tmp_path / c.slug / "times").read_text().split())) for c in cells]
  most = max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)
  assert most == jobs


def test_failed_cell_is_named_with_its_last_line_and_the_others_run(stub, tmp_path, capsys):
  cells = make_cells("a", "b", "c")
  run.run(cells, tmp_path, Local(), 1, stub(failing=("a",)), 0.01)
  assert statuses(tmp_path, cells) == [state.FAILED, state.DONE, state.DONE]
  assert launcher.finish(tmp_path, cells, Local()) == 1
  error = capsys.readouterr().err
  assert "1 of 3 cells failed" in error and "a: ValueError: the disk is green" in error
  assert str(tmp_path / "logs" / "a.log") in error
  # Tried again, only this one runs.
  assert launcher.missing(tmp_path, cells, Local()) == cells[:1]
  run.run(cells[:1], tmp_path, Local(), 1, stub(), 0.01)
  assert statuses(tmp_path, cells) == [state.DONE] * 3


def test_killed_process_is_a_failure(tmp_path):
  cells = make_cells("a")
  kill = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
  run.run(cells, tmp_path, Local(), 1, lambda *_: [sys.executable, "-c", kill], 0.01)
  assert statuses(tmp_path, cells) == [state.FAILED]
  assert "ended with signal SIGKILL" in (tmp_path / "logs" / "a.log").read_text()


def test_cells_share_compiled_programs(stub, tmp_path, monkeypatch):
  cells = make_cells("a")
  monkeypatch.delenv("TTTJAX_CACHE", raising=False)
  run.run(cells, tmp_path / "x", Local(), 1, stub(), 0.01)
  assert (tmp_path / "x/a/cache").read_text() == str(tmp_path / "x/.cache")
  monkeypatch.setenv("TTTJAX_CACHE", "/mine")
  run.run(cells, tmp_path / "y", Local(), 1, stub(), 0.01)
  assert (tmp_path / "y/a/cache").read_text() == "/mine"


def test_error_of_the_launcher_stops_the_running_cells(stub, tmp_path):
  def make(cell, workdir):
    if cell.slug == "b":
      wait_for((tmp_path / "a" / "samples_1.jsonl").exists)
      raise RuntimeError("no more")
    return stub(60)(cell, workdir)

  with pytest.raises(RuntimeError):
    run.run(make_cells("a", "b"), tmp_path, Local(), 2, make, 0.01)
  assert (tmp_path / "a" / "flushed").exists()
  assert Local().under_way(tmp_path / "logs" / "a.log") is None


def start_launcher(tmp_path, seconds):
  """A process that runs the cells a, b and c, two at a time; returns it once both have rows."""
  (tmp_path / "stub.py").write_text(_STUB)
  program = tmp_path / "program.py"
  program.write_text(
    "import pathlib, sys\n"
    "from launch import run\nfrom launch.cells import Cell\nfrom launch.local import Local\n"
    "from tttjax import flags\n"
    f"here = pathlib.Path({str(tmp_path)!r})\n"
    "make = lambda cell, workdir: [\n"
    f'    sys.executable, str(here / "stub.py"), str(workdir), "3", "{seconds}", "0"]\n'
    "def main():\n"
    '  run.run([Cell(s, {}, (), 3, 1) for s in "abc"], here, Local(), 2, make, 0.01)\n'
    "flags.run(main)\n"
  )
  process = subprocess.Popen(
    [sys.executable, str(program)],
    cwd=ROOT,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
  )
  wait_for(lambda: all((tmp_path / s / "samples_1.jsonl").exists() for s in "ab"), 60)
  return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_lets_the_cells_save_and_says_how_to_go_on(stub, tmp_path, number):
  process = start_launcher(tmp_path, seconds=60)
  process.send_signal(number)
  error = process.communicate(timeout=30)[1]
  assert process.returncode == 130
  assert "interrupted with 3 of 3 cells to finish; the same command continues" in error
  assert "Traceback" not in error
  cells = make_cells("a", "b", "c")
  assert [(tmp_path / cell.slug / "flushed").exists() for cell in cells] == [True, True, False]
  assert statuses(tmp_path, cells) == [state.PARTIAL, state.PARTIAL, state.NOT_STARTED]
  run.run(launcher.missing(tmp_path, cells, Local()), tmp_path, Local(), 3, stub(), 0.01)
  assert statuses(tmp_path, cells) == [state.DONE] * 3


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["front", "background"])
def sigint(request):
  """What the tests' own process does on SIGINT: ignores it, where a shell started it with &."""
  before = signal.signal(signal.SIGINT, request.param)
  yield request.param
  assert signal.getsignal(signal.SIGINT) == request.param
  signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("deaf_to, code", [(1, 130), (100, -signal.SIGKILL)])
def test_process_that_misses_the_interrupt_is_asked_again_and_then_killed(
  tmp_path, monkeypatch, sigint, deaf_to, code
):
  # Time to hear the second interrupt on a busy machine too.
  monkeypatch.setattr(local, "_SECONDS_BETWEEN", 5.0 if deaf_to == 1 else 0.2)
  program = (
    "import pathlib, sys, time\n"
    f"deaf_to, ready = {deaf_to}, pathlib.Path({str(tmp_path / 'ready')!r})\n"
    "while True:\n"
    "  try:\n"
    "    ready.touch()\n"
    "    time.sleep(60)\n"
    "  except KeyboardInterrupt:\n"
    "    deaf_to -= 1\n"
    "    if deaf_to < 0: sys.exit(130)\n"
  )
  backend = Local()
  handle = backend.submit([sys.executable, "-c", program], tmp_path / "log", {})
  wait_for((tmp_path / "ready").exists)
  backend.cancel([handle])
  assert backend.poll(handle) == code


def test_cells_of_a_killed_launcher_are_seen_running_and_left_alone(tmp_path):
  process = start_launcher(tmp_path, seconds=0.7)
  process.kill()
  process.communicate()
  cells = make_cells("a", "b", "c")
  assert statuses(tmp_path, cells) == [RUNNING, RUNNING, state.NOT_STARTED]
  assert launcher.missing(tmp_path, cells, Local()) == cells[2:]
  wait_for(lambda: RUNNING not in statuses(tmp_path, cells))
  assert statuses(tmp_path, cells) == [state.DONE, state.DONE, state.NOT_STARTED]


# What is on disk.


def write_cell(directory, rows, results_at=101):
  """A work directory with samples of time 101 and results of another time."""
  directory.mkdir(parents=True)
  (directory / "samples_1.jsonl").write_text("{}\n" * rows)
  (directory / "results_1.json").write_text("{}")
  os.utime(directory / "samples_1.jsonl", (101, 101))
  os.utime(directory / "results_1.json", (results_at, results_at))


def test_results_older_than_the_samples_are_not_a_finished_cell(tmp_path):
  old, new = cells = make_cells("old", "new")
  write_cell(tmp_path / "old", rows=3, results_at=100)
  write_cell(tmp_path / "new", rows=3)
  assert state.read(tmp_path, old, Local()) == state.State(state.PARTIAL, 3)
  assert state.read(tmp_path, new, Local()) == state.State(state.DONE, 3)
  assert launcher.missing(tmp_path, cells, Local()) == [old]


def test_report_of_half_a_run_does_not_finish_it(tmp_path):
  (cell,) = make_cells("a")
  write_cell(tmp_path / "a", rows=2)
  assert statuses(tmp_path, [cell]) == [state.PARTIAL]


def test_run_with_less_rows_than_planned_is_done_once_its_process_ended_well(stub, tmp_path):
  cell = Cell("a", {}, (), 4, 1)  # the stub makes three
  run.run([cell], tmp_path, Local(), 1, stub(), 0.01)
  assert state.read(tmp_path, cell, Local()) == state.State(state.DONE, 3)


def test_other_configuration_is_refused_and_says_what_differs(tmp_path):
  settings = {"lengths": (128, 256), "questions": 2}
  state.check(tmp_path, settings)  # nothing there yet
  state.write_manifest(tmp_path, "c.py", settings, "s.py", make_cells("a"))
  state.check(tmp_path, settings)
  with user_error("lengths: [128, 256] there, [128] now", "new: (absent) there", "--name"):
    state.check(tmp_path, {"lengths": (128,), "questions": 2, "new": 1})


def test_manifest_keeps_the_cells_of_an_earlier_sweep(tmp_path):
  state.write_manifest(tmp_path, "c.py", {}, "s.py", make_cells("a", "b"))
  state.write_manifest(tmp_path, "c.py", {}, "s.py", make_cells("b", "c"))
  assert list(json.loads((tmp_path / "sweep.json").read_text())["cells"]) == ["a", "b", "c"]
  assert "not in this sweep any more, left as they are: a" in launcher.table(
    tmp_path, make_cells("b", "c"), Local()
  )


@pytest.mark.parametrize(
  "text, words",
  [
    ('{"settings": 1}', "is not a record of a sweep"),
    ('{"settings": {}, "cells": []}', "is not a record of a sweep"),
    ('{"settings": {}, "cells": {"a": 1}}', "is not a record of a sweep"),
    ("[]", "not an object"),
    ("{", "not JSON"),
    ('{"settings": ' + "[" * 100_000, "not JSON"),
    ('{"settings": {"a": ' + "[" * 500 + "]" * 500 + '}, "cells": {}}', "nested"),
  ],
  ids=["settings", "cells", "cell", "list", "cut", "endless", "deep"],
)
def test_unreadable_manifest_is_named(tmp_path, text, words):
  (tmp_path / "sweep.json").write_text(text)
  with user_error(tmp_path / "sweep.json", words):
    state.check(tmp_path, {})


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("nowhere")])
@pytest.mark.parametrize("name", ["sweep.json", ".launcher", "logs/a.log", "a/samples_1.jsonl"])
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path, name, make):
  (tmp_path / name).parent.mkdir(exist_ok=True)
  make(tmp_path / name)
  with user_error(tmp_path / name, "not a regular file"):
    state.check(tmp_path, {})


def test_second_launcher_is_refused(tmp_path):
  with state.only_launcher(tmp_path / "new"):
    with user_error("another launcher is at work here"):
      with state.only_launcher(tmp_path / "new"):
        pass
  with state.only_launcher(tmp_path / "new"):
    pass


def test_table_has_states_rows_and_flops(tmp_path):
  cells = [Cell("a", {}, (), 3, 2 * 10**15), Cell("b", {}, (), 5, 10**15)]
  (tmp_path / "a").mkdir()
  (tmp_path / "a" / "samples_1.jsonl").write_text("{}\n{}\n{}\n")
  (tmp_path / "a" / "results_1.json").write_text("{}")
  lines = [line.split() for line in launcher.table(tmp_path, cells, Local()).splitlines()[1:]]
  assert lines == [
    ["done", "3/3", "2.0e+15", "a"],
    ["not", "started", "0/5", "1.0e+15", "b"],
    ["1/2", "done", "3/8", "3.0e+15", str(tmp_path)],
    ["1.0e+15", "of", "the", "cells", "that", "are", "not", "done"],
  ]


def test_report_has_every_cell_with_rows_and_names_the_incomplete_ones(
  tmp_path, monkeypatch, capsys
):
  calls = []
  fake = types.SimpleNamespace(build=lambda *arguments: calls.append(arguments))
  monkeypatch.setitem(sys.modules, "tttjax.report", fake)
  monkeypatch.setattr("tttjax.report", fake, raising=False)
  cells = make_cells("a", "b", "c")
  with user_error("no cell has rows yet"):
    launcher.collect(tmp_path, cells, Local())
  for slug, rows in (("a", 3), ("b", 1)):
    (tmp_path / slug).mkdir()
    (tmp_path / slug / "samples_1.jsonl").write_text("{}\n" * rows)
  (tmp_path / "a" / "results_1.json").write_text("{}")
  assert launcher.collect(tmp_path, cells, Local()) == 0
  assert calls == [
    ([tmp_path / "a", tmp_path / "b"], tmp_path / "report", ["", "partial, 1 of 3 rows"])
  ]
  assert "c (not started, 0 of 3 rows)" in capsys.readouterr().out


# From the shell, on a tiny checkpoint.


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
  """A function: runs the launcher with these arguments on two cells of one context each."""
  directory = tmp_path_factory.mktemp("sweep")
  tiny_run.write(directory / "checkpoint")
  (directory / "tiny.py").write_text(
    "from tttjax.experiment import default_config\n"
    "def get_config():\n"
    "  config = default_config()\n"
    f"  config.models = ({str(directory / 'checkpoint')!r},)\n"
    "  config.lengths, config.contexts, config.questions = (128,), (1,), 1\n"
    "  config.ttt.span, config.sampling.max_new_tokens, config.mechanism = 8, 4, False\n"
    "  return config\n"
  )
  (directory / "two.py").write_text(
    "from launch import algebra\n"
    "def get_sweep():\n"
    "  return algebra.chain(\n"
    '      algebra.fixed({"strategies": ("in_context",)}),\n'
    '      algebra.product(algebra.sweep("ttt.steps", (2,)),\n'
    '          algebra.fixed({"strategies": ("qttt(learning_rate=0.01, span=4)",)})))\n'
  )

  def start(*arguments):
    out, err = io.StringIO(), io.StringIO()
    line = ["--config=tiny.py", "--sweep=two.py", "--name=mine", "--jobs=2", *arguments]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
      patch.chdir(directory)
      patch.setattr(sys, "argv", ["sweep.py", *line])
      patch.setenv("PYTHONPATH", str(ROOT))
      patch.setenv("XLA_FLAGS", xla_flags.text(devices=1))
      for name in ("sweep", "name", "jobs", "dry_run", "status", "collect"):
        absl_flags.FLAGS[name].unparse()
      with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as exit_:
        flags.run(launcher.main, str(directory / "tiny.py"), run_fields.DESCRIPTIONS)
    return exit_.value.code or 0, out.getvalue(), err.getvalue()

  start.directory = directory
  return start


@pytest.fixture(scope="module")
def swept(sweep):
  """The sweep after a complete run, and what that printed."""
  code, out, err = sweep()
  assert code == 0, err
  return sweep, out


def test_dry_run_prints_the_commands_and_writes_nothing(sweep):
  files = lambda: {path for path in sweep.directory.rglob("*") if "__pycache__" not in str(path)}
  before = files()
  code, out, _ = sweep("--dry_run", "--name=dry")
  commands = [line for line in out.splitlines() if " -m tttjax.main " in line]
  assert code == 0 and len(commands) == 2
  assert "'--config.strategies=qttt(learning_rate=0.01, span=4)'" in commands[1]
  assert "--workdir=runs/dry/strategies=in_context" in commands[0]
  assert files() == before


def test_a_plan_needs_no_devices_whatever_the_mesh(sweep, monkeypatch):
  """It is made where a scheduler takes jobs, not where they run."""
  monkeypatch.setenv("JAX_PLATFORMS", "rocket")
  assert sweep("--dry_run", "--name=dry")[0] == 0
  code, out, err = sweep("--dry_run", "--name=dry", "--config.mesh.data=256")
  assert (code, err) == (0, "") and "--config.mesh.data=256" in out


def test_sweep_runs_every_cell(swept):
  sweep, output = swept
  assert "2 of 2 cells done" in output
  cells = [path.parent for path in (sweep.directory / "runs/mine").glob("*/results_*.json")]
  rows = {}
  for cell in cells:
    (path,) = cell.glob("samples_*.jsonl")
    (rows[cell.name],) = map(json.loads, path.read_text().splitlines())
  strategies = {name: row["strategy"] for name, row in rows.items()}
  assert strategies.pop("strategies=in_context") == "in_context"
  assert list(strategies.values()) == ["qttt(span=4, learning_rate=0.01)"]
  qttt = next(row for row in rows.values() if row["strategy"] != "in_context")
  # Its own span, and the steps that the FLOPs of 2 steps of span 8 pay for.
  assert (qttt["budget"]["steps"], qttt["budget"]["span"]) == (4, 4)


def test_status_and_a_second_run_start_nothing(swept):
  sweep, _ = swept
  files = lambda: {
    path: path.stat().st_mtime_ns
    for path in (sweep.directory / "runs").rglob("*.*")
    if path.name not in ("sweep.json", ".launcher")
  }
  before = files()
  assert re.search(r"^2/2 done +2/2 ", sweep("--status")[1], re.M)
  assert "2 of 2 cells done" in sweep()[1]
  assert files() == before


def test_collect_writes_one_report(swept):
  sweep, _ = swept
  code, _, err = sweep("--collect")
  assert code == 0, err
  page = (sweep.directory / "runs/mine/report/report.html").read_text(encoding="utf-8")
  assert "strategies=in_context" in page


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--config.questions=2"], ["questions: 1 there, 2 now", "--name"]),
    (["--config.workdir=x"], ["--config.workdir: a sweep goes to runs/NAME"]),
    (["--name=../x"], ["--name=../x: use letters"]),
    (["--sweep=nowhere.py"], ["--sweep=nowhere.py: no such Python file"]),
    (["--config.lengths=8", "--name=other"], ["cell {strategies=", "config."]),
    (["--status", "--collect"], ["exclude each other"]),
    (["--jobs=0"], ["--jobs=0 must be at least 1"]),
  ],
)
def test_mistake_is_one_line_and_starts_nothing(swept, arguments, words):
  sweep, _ = swept
  code, _, err = sweep(*arguments)
  assert (code, err.count("\n")) == (2, 1) and err.startswith("sweep.py: error: ")
  assert all(word in err for word in words), err
  assert not (sweep.directory / "runs/other").exists()


@pytest.mark.parametrize(
  "name, cells", [("steps_vs_thinking", 12), ("span_grid", 10), ("learning_rates", 7)]
)
def test_sweep_of_the_repository_passes_the_check(name, cells):
  sweep_file = planning.load_sweep(f"configs/sweeps/{name}.py")
  planned = planning.plan("configs/sandbox.py", {"smoke": True}, sweep_file)
  assert len({cell.slug for cell in planned}) == cells
  assert planned[0].slug.endswith("strategies=in_context")
