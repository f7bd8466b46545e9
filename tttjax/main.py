"""Compares ways to spend compute on a long context before answering questions about it.

  python -m tttjax.main --config=configs/quickstart.py [--config.ttt.steps=64 ...] [--workdir=DIR]

A config names models, tasks, context lengths, strategies and seeds; every combination is a cell.
DIR gets config.json, samples_*.jsonl (one row per prediction), results_*.json,
figures/*.png and report.html. The same command again continues an interrupted run.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
from typing import Any

from absl import flags
import jax

from tttjax import flags as command_line
from tttjax import report
from tttjax.evaluation import config as run_config
from tttjax.evaluation import records
from tttjax.evaluation import runner
from tttjax.evaluation import work as run_work
from tttjax.evaluation import writers
from tttjax.evaluation.progress import Progress

_WORKDIR = flags.DEFINE_string('workdir', None, 'where outputs go, instead of config.workdir')
_RETRY_FAILED = flags.DEFINE_bool(
    'retry_failed', False, 'compute the examples again whose rows have an error')

# Enough of a file's head and tail to notice that weights were replaced.
_FINGERPRINT_BYTES = 1 << 16


def main(config) -> None:
  """Checks the config, makes the missing rows, writes tables, figures and the report."""
  # transformers only tokenizes here; its advice to install PyTorch would puzzle.
  os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')
  plan = run_config.check(config)
  if plan.config.tensorboard:
    writers.check()
  work = run_work.prepare(plan)
  _use_compilation_cache()
  workdir = pathlib.Path(_WORKDIR.value or plan.config.workdir)
  records.prepare_workdir(workdir, _settings(plan, work))
  samples = records.Samples(workdir, _RETRY_FAILED.value)
  board = writers.TensorBoard(workdir) if plan.config.tensorboard else None
  progress = Progress(work, len(plan.strategies), sys.stderr)
  try:
    runner.run(plan, work, samples, progress, board.write if board else lambda rows: None)
  except KeyboardInterrupt:
    raise KeyboardInterrupt(
        f'interrupted with {len(samples.rows)} rows in {samples.path}; the same command continues'
    ) from None
  finally:
    progress.close()
    samples.close()
    if board:
      board.close()
  report.build([workdir], workdir, [''])
  failed = sum(row['error'] is not None for row in samples.rows.values())
  if failed:
    print(
        f'{failed} of {len(samples.rows)} predictions failed and count as wrong: see the report;'
        ' --retry_failed computes them again', file=sys.stderr)


def _settings(
    plan: run_config.Plan, work: dict[str, run_work.ModelWork]) -> dict[str, Any]:
  """What rows depend on: the fields by dotted name, the checkpoints, examples and the backend."""
  settings = {
      name: value for name, value in command_line.fields(plan.config)
      if name not in ('workdir', 'tensorboard')}
  settings['checkpoint_sha256'] = [
      _fingerprint(model.checkpoint) for model in plan.models.values()]
  # Examples come from source trees, tokenizers and chat templates that may change under a run.
  digest = hashlib.sha256()
  for model in work.values():
    for item in model.items:
      digest.update(item.case.tokens.tobytes())
      digest.update(repr((item.case.prompts, item.case.answers)).encode())
  settings['examples_sha256'] = digest.hexdigest()[:16]
  settings['backend'] = jax.default_backend()
  settings['git_hash'] = _git_hash()
  return settings


def _git_hash() -> str | None:
  """Commit of the source tree, with a mark where files differ from it; None outside of one."""
  command = ['git', 'describe', '--always', '--abbrev=40', '--dirty', '--exclude=*']
  try:
    done = subprocess.run(
        command, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True, check=False)
  except OSError:
    return None
  return done.stdout.strip() or None if done.returncode == 0 else None


def _use_compilation_cache() -> None:
  """Compiled programs are kept in $TTTJAX_CACHE, and nowhere without that variable."""
  if directory := os.environ.get('TTTJAX_CACHE'):
    jax.config.update('jax_compilation_cache_dir', str(pathlib.Path(directory) / 'xla'))


def _fingerprint(checkpoint: pathlib.Path) -> str:
  """Hash over names, sizes, heads and tails of the checkpoint's files, 16 hex digits."""
  digest = hashlib.sha256()
  for path in sorted(p for p in checkpoint.iterdir() if p.suffix in ('.json', '.safetensors')):
    size = path.stat().st_size
    digest.update(f'{path.name}:{size}'.encode())
    with open(path, 'rb') as file:
      digest.update(file.read(_FINGERPRINT_BYTES))
      file.seek(max(size - _FINGERPRINT_BYTES, 0))
      digest.update(file.read())
  return digest.hexdigest()[:16]


if __name__ == '__main__':
  command_line.run(main, 'configs/quickstart.py', run_config.DESCRIPTIONS)
