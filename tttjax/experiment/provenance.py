"""What a run's rows depend on: config, checkpoints, backend and the code's commit."""

import pathlib
import subprocess
from typing import Any

import jax

from tttjax import flags as command_line
from tttjax.experiment import config as run_config


def settings(plan: run_config.Plan) -> dict[str, Any]:
  """What rows depend on: the fields by dotted name, the checkpoints, backend and commit."""
  values = {
    name: value
    for name, value in command_line.fields(plan.config)
    if name not in ("workdir", "tensorboard")
  }
  values["checkpoint_sha256"] = {
    name: checkpoint.fingerprint for name, checkpoint in plan.models.items()
  }
  values["backend"] = jax.default_backend()
  values["git_hash"] = _git_hash()
  return values


def _git_hash() -> str | None:
  """Commit of the source tree, with a mark where files differ from it; None outside of one."""
  command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
  try:
    done = subprocess.run(
      command, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True, check=False
    )
  except OSError:
    return None
  return done.stdout.strip() or None if done.returncode == 0 else None
