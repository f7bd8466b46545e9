"""What a run's rows depend on: config, checkpoints, backend and the code's commit."""

import os
import pathlib
import subprocess
from typing import Any

import jax

from tttjax import flags as command_line
from tttjax.experiment import config as run_config

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent


def settings(plan: run_config.Plan) -> dict[str, Any]:
  """What rows depend on: the fields by dotted name, the checkpoints, backend and commit."""
  values = {
    name: value
    for name, value in command_line.fields(plan.config)
    if name not in ("workdir", "tensorboard", "data")  # of the data what is in it
  }
  if not plan.config.yarn.factor:  # rows do not depend on them, older versions did not have them
    del values["yarn.factor"], values["yarn.original"]
  values["checkpoint_sha256"] = {
    name: checkpoint.fingerprint for name, checkpoint in plan.models.items()
  }
  if files := {
    name: digest for own in plan.contexts.values() for name, digest in own.files.items()
  }:
    values["data_sha256"] = files
  values["backend"] = jax.default_backend()
  values["git_hash"] = git_hash()
  return values


def git_hash(package: pathlib.Path = _PACKAGE) -> str | None:
  """Commit of the package's source tree, with '-dirty' where files differ from it.

  None where the package is not a git work tree's own: installed, or copied into a repository of
  something else, whose commit says nothing about the code that ran.
  """
  tree = package.parent
  top = _git(tree, "rev-parse", "--show-toplevel")
  if top is None or pathlib.Path(top).resolve() != tree:
    return None
  if _git(tree, "ls-files", "--error-unmatch", str(package / "__init__.py")) is None:
    return None
  return _git(tree, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def _git(directory: pathlib.Path, *arguments: str) -> str | None:
  """What git prints; None where it fails or is not installed."""
  command = ["git", "-C", str(directory), *arguments]
  # Within a hook of git, say, GIT_DIR names another repository than the directory does.
  environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
  except OSError:
    return None
  return done.stdout.strip() if done.returncode == 0 else None
