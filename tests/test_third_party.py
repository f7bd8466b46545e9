"""Outside sources: pip against a local folder, checksums, archives that want to leave theirs."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

from tests.errors import user_error
from tttjax import third_party
from tttjax.errors import UserError
from tttjax.tasks.synthetic.code_bugs import CodeBugs
from tttjax.third_party import manifest as manifests

ROOT = pathlib.Path(__file__).resolve().parent.parent
_WHEEL = "tiny_source-1.0-py3-none-any.whl"
_MEMBERS = {
  "tiny/a.py": 'def f(a, b):\n  return a - b\n\n\nraise SystemExit("imported")\n',
  "tiny/data.bin": "x",
  "other/b.py": "x = 1\n",
  "tiny_source-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-source\nVersion: 1.0\n",
  "tiny_source-1.0.dist-info/WHEEL": (
    "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
  ),
  "tiny_source-1.0.dist-info/RECORD": "",
}


@pytest.fixture
def links(tmp_path, monkeypatch):
  """A folder that pip serves packages from, and no other; the cache is empty."""
  folder = tmp_path / "links"
  folder.mkdir()
  for name in [name for name in os.environ if name.startswith("PIP_")]:
    monkeypatch.delenv(name)
  monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
  monkeypatch.setenv("PIP_NO_INDEX", "1")
  monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
  monkeypatch.setenv("TTTJAX_CACHE", str(tmp_path / "cache"))
  return folder


def write_wheel(folder, extra=()):
  """A wheel, and its manifest."""
  path = folder / _WHEEL
  with zipfile.ZipFile(path, "w") as archive:
    for name, text in [*_MEMBERS.items(), *extra]:
      archive.writestr(name, text)
  return third_party.Manifest(
    name="tiny",
    what="a test",
    source="a folder",
    package="tiny-source",
    version="1.0",
    file=_WHEEL,
    sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    licence="MIT",
    folders=("tiny",),
    command="python -m tttjax.third_party --fetch=tiny",
  )


def left(tmp_path):
  """Files in the cache, by their path below the version's folder."""
  root = tmp_path / "cache" / "third_party"
  return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_fetch_keeps_the_python_files_of_the_named_folders(links, tmp_path):
  manifest = write_wheel(links)
  folder = third_party.fetch(manifest)
  assert folder == third_party.location(manifest)
  assert left(tmp_path) == [f"{folder.name}/tiny/a.py"]
  assert (folder / "tiny/a.py").read_text() == _MEMBERS["tiny/a.py"]
  (links / _WHEEL).unlink()
  assert third_party.fetch(manifest) == folder  # Once is enough.


def test_named_files_are_kept_and_found_without_an_import(links, tmp_path, monkeypatch):
  data = {"tiny/data.bin": hashlib.sha256(b"x").hexdigest()}
  manifest = dataclasses.replace(write_wheel(links), folders=(), files=data)
  assert third_party.find_file(manifest, "tiny/data.bin") is None
  folder = third_party.fetch(manifest)
  assert left(tmp_path) == [f"{folder.name}/tiny/data.bin"]
  assert third_party.find_file(manifest, "tiny/data.bin") == folder / "tiny/data.bin"
  installed = tmp_path / "site"
  with zipfile.ZipFile(links / _WHEEL) as archive:
    archive.extractall(installed)
  monkeypatch.syspath_prepend(installed)  # Its a.py would end the test.
  assert third_party.find_file(manifest, "tiny/data.bin") == installed / "tiny/data.bin"
  missing = dataclasses.replace(manifest, version="1.0", name="other", files={"tiny/b": "0" * 64})
  with pytest.raises(UserError, match="has no file tiny/b"):
    third_party.fetch(missing)


def test_fetched_source_is_a_haystack(links, monkeypatch, tmp_path):
  manifest = write_wheel(links)
  third_party.fetch(manifest)
  monkeypatch.setattr(third_party, "manifest_names", lambda: ["tiny"])
  monkeypatch.setattr(third_party, "load_manifest", lambda name: manifest)
  CodeBugs("tiny").check(5, False)
  monkeypatch.setenv("TTTJAX_CACHE", str(tmp_path / "empty"))
  with pytest.raises(UserError, match="run python -m tttjax.third_party --fetch=tiny"):
    CodeBugs("tiny").check(5, False)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"sha256": "0" * 64}, "it was not unpacked"),
    ({"version": "2.0"}, "pip could not download"),
    ({"file": "other.whl"}, "instead of other.whl"),
    ({"folders": ("absent",)}, "no Python files"),
  ],
)
def test_what_is_not_the_manifests_file_leaves_nothing(links, tmp_path, change, message):
  manifest = write_wheel(links)
  with pytest.raises(UserError, match=message):
    third_party.fetch(third_party.Manifest(**{**vars(manifest), **change}))
  assert left(tmp_path) == []


@pytest.mark.parametrize(
  "name",
  ["tiny/../../../escaped.py", "tiny/..\\escaped.py", "tiny/../escaped.py/../../../escaped.py"],
)
def test_member_that_leaves_the_folder_is_refused(links, tmp_path, name):
  manifest = write_wheel(links, [(name, "x = 1\n")])
  with pytest.raises(UserError, match="leaves the folder"):
    third_party.fetch(manifest)
  assert left(tmp_path) == [] and not list(tmp_path.rglob("escaped.py"))


def test_every_manifest_is_complete_and_in_the_readme():
  readme = (ROOT / "third_party" / "README.md").read_text(encoding="utf-8")
  assert {"olmo", "smollm2"} <= set(third_party.manifest_names())
  for name in third_party.manifest_names():
    manifest = third_party.load_manifest(name)
    assert manifest.command == f"python -m tttjax.third_party --fetch={name}"
    assert f"[{name}.json](../tttjax/third_party/{name}.json)" in readme
    assert manifest.package in readme
    kept = {"folders", "files"}
    assert all(value for field, value in vars(manifest).items() if field not in kept)
    assert manifest.folders or manifest.files


@pytest.mark.parametrize(
  "change, message",
  [
    ({"sha256": "abc"}, "sha256"),
    ({"package": "--target=x"}, "package"),
    ({"file": "../a.whl"}, "file"),
    ({"extra": 1}, "not a manifest"),
    ({"folders": 3}, "manifest"),
    ({"files": {"a": "abc"}}, "files"),
  ],
)
def test_broken_manifest(tmp_path, change, message):
  good = json.loads((manifests.MANIFESTS / "olmo.json").read_text())
  (tmp_path / "bad.json").write_text(json.dumps({**good, **change}))
  with pytest.raises(UserError, match=message):
    third_party.load_manifest("bad", tmp_path)


@pytest.mark.parametrize(
  "text, found", [("~/cache", "/home/me/cache"), ("", "/home/me/.cache/tttjax")]
)
def test_cache_is_a_path_as_users_write_it(monkeypatch, text, found):
  monkeypatch.setenv("HOME", "/home/me")
  monkeypatch.setenv("TTTJAX_CACHE", text)
  folder = third_party.location(third_party.load_manifest("olmo"))
  assert folder.is_relative_to(pathlib.Path(found) / "third_party")


def test_cache_of_nobody_is_named(monkeypatch):
  monkeypatch.setenv("TTTJAX_CACHE", "~nobody9/x")
  with user_error("TTTJAX_CACHE=~nobody9/x: no such user"):
    third_party.location(third_party.load_manifest("olmo"))


def test_command_lists_manifests_and_names_a_mistake(tmp_path):
  environment = {**os.environ, "TTTJAX_CACHE": str(tmp_path)}
  run = lambda *arguments: subprocess.run(
    [sys.executable, "-m", "tttjax.third_party", *arguments],
    capture_output=True,
    text=True,
    env=environment,
    check=False,
  )
  listed = run()
  assert listed.returncode == 0
  assert re.search(r"olmo: .*\n.*ai2-olmo 0.6.0.*\n.*not fetched: python -m", listed.stdout)
  wrong = run("--fetch=olm")
  assert wrong.returncode == 2 and "no manifest 'olm'" in wrong.stderr
  assert len(wrong.stderr.strip().splitlines()) == 1
