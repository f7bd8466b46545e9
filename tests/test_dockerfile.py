"""The image of the Dockerfile, without Docker: what it copies is enough for what it runs."""

import configparser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
  """Its directory, with what COPY takes of that which .dockerignore lets through."""
  sent = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M)
  folder = tmp_path_factory.mktemp("image")
  for words in re.findall(r"^COPY (.+)$", TEXT, re.M):
    *sources, target = words.split()
    for source in sources:
      assert source in sent, f"{source} is not sent to Docker"
      if (ROOT / source).is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / source, folder / target, ignore=ignored)
      else:
        shutil.copy(ROOT / source, folder / target)
  return folder


def run(image, *command):
  """What a command prints there; tttjax is the image's."""
  done = subprocess.run(
    [sys.executable, *command],
    cwd=image,
    env={**os.environ, "PYTHONPATH": str(image), "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_its_command_runs_the_quickstart(image):
  program, *arguments = json.loads(re.search(r"^CMD (.+)$", TEXT, re.M)[1])
  assert program == "python"
  assert run(image, "-c", "import tttjax; print(tttjax.__file__)").startswith(str(image))
  small = {"lengths": 128, "contexts": 1, "questions": 1, "strategies": "in_context"}
  small["mechanism"] = "false"
  flags = [f"--config.{name}={value}" for name, value in small.items()]
  assert "in-context" in run(image, *arguments, *flags, "--workdir=run")
  assert len(next(image.glob("run/samples_*.jsonl")).read_text().splitlines()) == 1


def test_sweeps_start_there(image):
  options = "--sweep=configs/sweeps/steps_vs_thinking.py", "--name=x", "--dry_run"
  assert "not started" in run(image, "-m", "launch.sweep", *options)


def test_its_extras_are_those_of_the_package():
  setup = configparser.ConfigParser()
  setup.read(ROOT / "setup.cfg", encoding="utf-8")
  named = re.findall(r"EXTRAS=([\w,]+)", TEXT) + re.findall(r"# or ([\w,]+);", TEXT)
  assert len(named) >= 3
  assert {extra for text in named for extra in text.split(",")} <= {
    *setup["options.extras_require"]
  }
