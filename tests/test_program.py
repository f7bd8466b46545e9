"""How programs end: exit codes, and one line for a disk or a reader that gives out."""

import errno
import os
import pathlib
import resource
import subprocess
import sys

import pytest

from tests import synthetic_rows
from tests.errors import user_error
from tttjax import program
from tttjax.errors import UserError
from tttjax.experiment.samples_file import SamplesFile
from tttjax.files import write_json
from tttjax.report import __main__ as report_command

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def workdir(tmp_path):
  rows = synthetic_rows.rows(("in_context", "qttt"), (256,), contexts=4, mechanism=False)
  synthetic_rows.write(tmp_path / "run", rows)
  return tmp_path / "run"


def report(workdir, shell, **options):
  """Runs `python -m tttjax.report workdir` as $REPORT of a shell command."""
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
  environment.pop("PYTHONUNBUFFERED", None)
  environment["REPORT"] = f"{sys.executable} -m tttjax.report {workdir}"
  return subprocess.run(
    ["bash", "-c", shell], env=environment, capture_output=True, text=True, check=False, **options
  )


def raising(error):
  def function():
    raise error

  return function


@pytest.mark.parametrize(
  "error, code, line",
  [
    (UserError("a\n  b"), 2, "error: a b"),
    (OSError(errno.ENOSPC, "No space left", "x/y"), 2, "error: x/y: No space left; make room"),
    (OSError(errno.EFBIG, "File too large", "x"), 2, "error: x: File too large; make room"),
    (OSError(errno.EROFS, "Read-only", "x"), 2, "error: x: Read-only; use one that can be read"),
    (PermissionError(errno.EACCES, "Denied", "x"), 2, "error: x: Denied; use one that can"),
    (OSError(errno.EMFILE, "Too many open files"), 2, "error: Too many open files; what was"),
    (OSError(errno.ENOSPC, "No space left"), 2, "error: No space left; make room; what was"),
    (OSError("no route"), 2, "error: no route; what was written is kept"),
    (KeyboardInterrupt("interrupted with 3 rows"), 130, "interrupted with 3 rows"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, None),
  ],
)
def test_error_is_one_line_and_an_exit_code(monkeypatch, capsys, error, code, line):
  monkeypatch.setattr(sys, "argv", ["/a/main.py"])
  assert program.run(raising(error)) == code
  out, text = capsys.readouterr()
  assert out == "" and text.count("\n") == (line is not None)
  assert text.startswith(f"main.py: {line or ''}" if line else "")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug")])
def test_a_bug_keeps_its_traceback(error):
  with pytest.raises(type(error)):
    program.run(raising(error))


def test_code_of_the_function_is_the_exit_code():
  assert program.run(lambda: None) == 0
  assert program.run(lambda: 1) == 1
  assert program.run(raising(SystemExit(2))) == 2


def test_package_that_is_run_has_its_own_name(monkeypatch):
  monkeypatch.setattr(sys, "argv", ["/a/tttjax/report/__main__.py"])
  assert program.name() == "report"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_standard_output_is_named(workdir, unbuffered):
  done = report(workdir, f"PYTHONUNBUFFERED={unbuffered} $REPORT >/dev/full")
  assert done.returncode == 2 and (workdir / "report.html").exists()
  assert done.stderr.splitlines()[-1].startswith(
    "report: error: standard output: No space left on device; make room"
  )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_is_named_for_its_own_errors_alone(unbuffered):
  code = (
    "import errno, sys\nfrom tttjax import program\n"
    "def f():\n  print('a')\n  raise OSError(errno.EMFILE, 'Too many open files')\n"
    "sys.exit(program.run(f))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=ROOT,
    env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stdout) == (2, "a\n")
  assert done.stderr == "-c: error: Too many open files; what was written is kept\n"


@pytest.mark.parametrize(
  "shell", ["$REPORT | true; exit ${PIPESTATUS[0]}", "$REPORT --help | true; exit ${PIPESTATUS[0]}"]
)
def test_reader_that_went_away_ends_it_quietly(workdir, shell):
  # The reader is gone before the first byte.
  done = report(workdir, shell)
  assert done.returncode == 141
  assert done.stderr in ("", f"{workdir}/report.html\n")
  assert (workdir / "report.html").exists() == ("help" not in shell)


def test_closed_standard_streams_do_not_matter(workdir):
  done = report(workdir, "$REPORT <&- >&- 2>&-")
  assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
  assert (workdir / "report.html").read_text().rstrip().endswith("</html>")


def test_full_disk_names_the_file_and_leaves_no_part_of_it(workdir):
  done = report(workdir, "ulimit -f 4; $REPORT")
  assert done.returncode == 2
  assert done.stderr.count("\n") == 1
  assert done.stderr.startswith(f"report: error: {workdir}/figures/")
  assert "File too large; make room" in done.stderr
  for path in (workdir / "figures").iterdir():
    assert path.read_bytes().endswith(b"IEND\xaeB`\x82")  # a whole PNG


def test_output_below_a_file_is_named(workdir, capsys, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["/a/tttjax/report/__main__.py"])
  out = workdir / "config.json" / "out"
  assert report_command.main([str(workdir), f"--out={out}"]) == 2
  error = capsys.readouterr().err
  assert error.startswith(f"report: error: {out}") and error.count("\n") == 1


def test_samples_that_are_no_file_are_named(tmp_path):
  os.mkfifo(tmp_path / "samples_x.jsonl")
  with user_error(tmp_path / "samples_x.jsonl", "not a regular file"):
    SamplesFile(tmp_path)


def test_rows_of_before_are_read_and_not_continued(tmp_path):
  row = synthetic_rows.row()
  del row["doc"]["questions"], row["family"]
  synthetic_rows.write(tmp_path, [row])
  with user_error("rows of version 0.1", "another --workdir"):
    SamplesFile(tmp_path)


def test_rows_before_the_disk_was_full_are_kept(tmp_path):
  rows = synthetic_rows.rows(("in_context",), (256,), contexts=4)
  samples = SamplesFile(tmp_path)
  samples.append(rows[0])
  size = samples.path.stat().st_size
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))
  try:
    with pytest.raises(OSError) as error:
      samples.append(rows[1])
    with pytest.raises(OSError):
      samples.close()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert error.value.filename == str(samples.path) and error.value.errno == errno.EFBIG
  again = SamplesFile(tmp_path)
  assert list(again.rows.values()) == rows[:1]
  again.append(rows[1])
  again.close()


def test_a_failed_replacement_names_the_file(tmp_path, monkeypatch):
  def full(*unused):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(os, "replace", full)
  with pytest.raises(OSError) as error:
    write_json(tmp_path / "a.json", {})
  assert error.value.filename == str(tmp_path / "a.json")
  assert list(tmp_path.iterdir()) == []


def test_missing_device_is_named():
  done = subprocess.run(
    [sys.executable, "-m", "tttjax.main"],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "rocket"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stdout) == (2, "")
  assert done.stderr.startswith("main.py: error: JAX_PLATFORMS=rocket: no such device")
  assert done.stderr.count("\n") == 1
