"""Files that appear complete or not at all; paths as a user writes them."""

import os
import pathlib
import stat
import subprocess
import sys

import pytest

from tests.errors import user_error
from tttjax import files
from tttjax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
  code = (
    "import os, pathlib, signal\nfrom tttjax.files import replacing\n"
    f"with replacing(pathlib.Path({str(tmp_path / 'a.png')!r})) as path:\n"
    "  path.write_bytes(b'half')\n  os.kill(os.getpid(), signal.SIGKILL)\n"
  )
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
  (left,) = tmp_path.iterdir()
  assert left.name != "a.png" and left.read_bytes() == b"half"
  files.write_json(tmp_path / "b.json", 1)
  assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_what_another_writer_is_at_stays(tmp_path):
  with files.replacing(tmp_path / "a.txt") as temporary:
    temporary.write_text("a")
    files.write_json(tmp_path / "b.json", 1)
  assert (tmp_path / "a.txt").read_text() == "a"


def test_error_leaves_nothing(tmp_path):
  with pytest.raises(ValueError), files.replacing(tmp_path / "a.txt") as temporary:
    temporary.write_text("half")
    raise ValueError
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_mode_follows_the_umask(tmp_path, umask):
  before = os.umask(umask)
  try:
    files.write_json(tmp_path / "a.json", 1)
  finally:
    os.umask(before)
  assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o666 & ~umask


def test_home_directory_is_expanded(monkeypatch):
  monkeypatch.setenv("HOME", "/home/somebody")
  assert files.user_path("~/runs", "--workdir") == pathlib.Path("/home/somebody/runs")
  assert files.user_path(pathlib.Path("~/runs"), "--workdir") == pathlib.Path("/home/somebody/runs")
  assert files.user_path("runs/~", "--workdir") == pathlib.Path("runs/~")


@pytest.mark.parametrize(
  "text, words",
  [
    ("", "is empty"),
    (" ", "is empty"),
    ("~nobody9/x", "no such user"),
    (None, "must be a path, not None"),
    (3, "must be a path"),
    (b"runs", "must be a path"),
    ("~/a\0b", "null character"),
  ],
)
def test_path_that_names_nothing_is_refused(text, words):
  with pytest.raises(UserError, match=f"--workdir.*{words}"):
    files.user_path(text, "--workdir")


@pytest.mark.parametrize(
  "make, words",
  [
    (os.mkfifo, "not a regular file"),
    (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    (lambda path: path.mkdir(), "Is a directory"),
    (lambda path: None, "No such file"),
    (lambda path: path.write_bytes(b""), "not JSON"),
    (lambda path: path.write_bytes(b'{"a": "\xff"}'), "not JSON"),
    (lambda path: path.write_text('{"a": NaN}'), "not JSON (NaN"),
    (lambda path: path.write_text('{"a": 1e999}'), "not JSON (1e999"),
    (lambda path: path.write_text('{"a": ' * 100_000), "not JSON"),
    (lambda path: path.write_text('{"a": ' * 30 + "1" + "}" * 30), "nested more than 20 deep"),
    (lambda path: path.write_text('{"a": ' * 20 + "[1]" + "}" * 20), "nested more than 20 deep"),
    (lambda path: path.write_text("[]"), "not an object"),
  ],
)
def test_what_is_no_file_of_json_is_named(tmp_path, make, words):
  path = tmp_path / "a.json"
  make(path)
  with user_error(path, words):
    files.read_json(path)


@pytest.mark.parametrize("name", ["a\0b.json", "\ud800.json"])
def test_a_name_that_no_file_can_have_is_named(tmp_path, name):
  with user_error("cannot be read"):
    files.read_json(tmp_path / name)


def test_a_fifo_among_what_killed_processes_left_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / f"{files._UNFINISHED}x")
  files.write_json(tmp_path / "a.json", {})
  assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_twenty_levels_are_read(tmp_path):
  (tmp_path / "a.json").write_text('{"a": ' * 20 + "1" + "}" * 20)
  files.read_json(tmp_path / "a.json")


def test_json_is_read_as_it_was_written(tmp_path):
  value = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
  files.write_json(tmp_path / "a.json", value)
  assert files.read_json(tmp_path / "a.json") == value
