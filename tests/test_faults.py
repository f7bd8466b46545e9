"""What befalls long runs besides signals: clocks that jump, disks that take nothing."""

import os
import subprocess

import pytest

from tests import tiny_run
from tttjax import report
from tttjax.errors import UserError
from tttjax.experiment import run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  directory = tmp_path_factory.mktemp("checkpoint")
  tiny_run.write(directory)
  return directory


def config(checkpoint, contexts=1):
  return tiny_run.config(
    checkpoint, strategies=("in_context",), contexts=(contexts,), mechanism=False
  )


@pytest.mark.parametrize("year", [1971, 2105])
def test_a_clock_that_jumps_loses_nothing(checkpoint, tmp_path, year):
  """Files of a year that is long gone, or has not come: rows are known by their keys alone."""
  first = run(config(checkpoint), tmp_path)
  report.build([tmp_path], tmp_path)
  (path,) = tmp_path.glob("samples_*.jsonl")
  moved = path.rename(tmp_path / f"samples_{year}-01-01T00-00-00.jsonl")
  for file in tmp_path.rglob("*"):
    os.utime(file, ((year - 1970) * 31_556_952,) * 2)
  second = run(config(checkpoint, contexts=2), tmp_path)
  assert list(tmp_path.glob("samples_*.jsonl")) == [moved]
  assert second.rows[: len(first.rows)] == first.rows
  assert len(second.rows) == 2 * len(first.rows)
  report.build([tmp_path], tmp_path)


def test_a_finished_run_leaves_nothing_unfinished(checkpoint, tmp_path):
  """As where it was killed after the rows of a unit, before what it had kept of it was removed."""
  (tmp_path / "unfinished" / "unit" / "1").mkdir(parents=True)
  run(config(checkpoint), tmp_path)
  assert not (tmp_path / "unfinished").exists()


@pytest.fixture
def read_only(tmp_path):
  """A file system that is mounted so; root may write wherever permissions alone forbid it."""
  mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(tmp_path)]
  done = subprocess.run(mount, capture_output=True, text=True, check=False)
  if done.returncode:
    pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
  yield tmp_path
  subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_file_system_that_is_mounted_read_only_is_named(checkpoint, read_only):
  with pytest.raises(UserError, match="Read-only file system; choose another directory") as error:
    run(config(checkpoint), read_only / "run")
  assert str(error.value).startswith(f"--workdir={read_only}/run: ")
