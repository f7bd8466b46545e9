"""What a run's rows depend on: config, checkpoints, examples, backend and the code's commit."""

import hashlib
import pathlib
import subprocess
from typing import Any

import jax

from tttjax import flags as command_line
from tttjax.experiment import config as run_config
from tttjax.experiment import work as run_work

# Enough of a file's head and tail to notice that weights were replaced.
_FINGERPRINT_BYTES = 1 << 16


def settings(plan: run_config.Plan, work: dict[str, run_work.ModelWork]) -> dict[str, Any]:
  """What rows depend on: the fields by dotted name, the checkpoints, examples and the backend."""
  settings = {
    name: value
    for name, value in command_line.fields(plan.config)
    if name not in ("workdir", "tensorboard")
  }
  settings["checkpoint_sha256"] = [_fingerprint(model.checkpoint) for model in plan.models.values()]
  # Examples come from source trees, tokenizers and chat templates that may change under a run.
  digest = hashlib.sha256()
  for model in work.values():
    for item in model.items:
      digest.update(item.case.tokens.tobytes())
      digest.update(repr((item.case.prompts, item.case.answers)).encode())
  settings["examples_sha256"] = digest.hexdigest()[:16]
  settings["backend"] = jax.default_backend()
  settings["git_hash"] = _git_hash()
  return settings


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


def _fingerprint(checkpoint: pathlib.Path) -> str:
  """Hash over names, sizes, heads and tails of the checkpoint's files, 16 hex digits."""
  digest = hashlib.sha256()
  for path in sorted(p for p in checkpoint.iterdir() if p.suffix in (".json", ".safetensors")):
    size = path.stat().st_size
    digest.update(f"{path.name}:{size}".encode())
    with open(path, "rb") as file:
      digest.update(file.read(_FINGERPRINT_BYTES))
      file.seek(max(size - _FINGERPRINT_BYTES, 0))
      digest.update(file.read())
  return digest.hexdigest()[:16]
