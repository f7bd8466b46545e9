"""The commit of a run is that of the code that ran, or none."""

import pathlib
import subprocess

import pytest

from tttjax.experiment.provenance import git_hash


def git(directory, *arguments):
  identity = "-c", "user.name=a", "-c", "user.email=a@b"
  command = ["git", "-C", str(directory), *identity, *arguments]
  return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
  """A repository with a package in it."""
  package = tmp_path.resolve() / "tttjax"
  package.mkdir()
  (package / "__init__.py").write_text("")
  git(tmp_path, "init", "-q")
  git(tmp_path, "add", ".")
  git(tmp_path, "commit", "-q", "-m", "first")
  return package.parent


def test_commit_of_the_source_tree_and_whether_files_differ(repository):
  commit = git(repository, "rev-parse", "HEAD")
  assert git_hash(repository / "tttjax") == commit
  (repository / "tttjax" / "__init__.py").write_text("x = 1")
  assert git_hash(repository / "tttjax") == f"{commit}-dirty"


@pytest.mark.parametrize("place", ["venv/site-packages/tttjax", "other/tttjax"])
def test_installed_inside_of_another_repository_has_no_commit(repository, place):
  package = repository / place
  package.mkdir(parents=True)
  (package / "__init__.py").write_text("")
  assert git_hash(package) is None
  git(repository, "add", place)  # vendored
  assert git_hash(package) is None


def test_copied_into_the_root_of_another_repository_has_no_commit(repository):
  git(repository, "rm", "-q", "--cached", "tttjax/__init__.py")
  (repository / "README").write_text("")
  git(repository, "add", "README")
  git(repository, "commit", "-q", "-m", "another project")
  assert git_hash(repository / "tttjax") is None


@pytest.mark.parametrize(
  "names", [["GIT_DIR"], ["GIT_DIR", "GIT_WORK_TREE"], ["GIT_DIR", "GIT_INDEX_FILE"]]
)
def test_repository_that_the_environment_names_is_not_asked(
  repository, tmp_path_factory, monkeypatch, names
):
  commit = git(repository, "rev-parse", "HEAD")
  other = tmp_path_factory.mktemp("other")
  git(other, "init", "-q")
  git(other, "commit", "-q", "--allow-empty", "-m", "another project")
  places = {
    "GIT_DIR": other / ".git",
    "GIT_WORK_TREE": other,
    "GIT_INDEX_FILE": other / ".git" / "index",
  }
  for name in names:
    monkeypatch.setenv(name, str(places[name]))
  assert git_hash(repository / "tttjax") == commit


def test_without_git_there_is_no_commit(tmp_path, repository, monkeypatch):
  monkeypatch.setenv("PATH", str(pathlib.Path(tmp_path) / "nothing"))
  assert git_hash(repository / "tttjax") is None
