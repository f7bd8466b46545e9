"""Compares ways to spend compute on a long context before answering questions about it.

  python -m tttjax.main --config=configs/quickstart.py [--config.ttt.steps=64 ...] [--workdir=DIR]

Transaction logs of several lengths are asked for facts that stand at one place of
them; strategies are plain reading (in_context), thinking tokens (thinking), test-time
training of the query projections (qttt) and its control (qttt_other_context).

DIR gets config.json, samples_*.jsonl (one row per prediction), results_*.json,
figures/*.png and report.html. The same command again continues an interrupted run.
"""

import hashlib
import os
import pathlib
import sys
from typing import Any

from absl import flags
import jax

from tttjax import flags as command_line
from tttjax.evaluation import config as run_config
from tttjax.evaluation import figures
from tttjax.evaluation import records
from tttjax.evaluation import report
from tttjax.evaluation import runner
from tttjax.evaluation import summary

_WORKDIR = flags.DEFINE_string('workdir', None, 'where outputs go, instead of config.workdir')

# Enough of a file's head and tail to notice that weights were replaced.
_FINGERPRINT_BYTES = 1 << 16


def main(config) -> None:
  """Checks the config, makes the missing rows, writes tables, figures and the report."""
  # transformers only tokenizes here; its advice to install PyTorch would puzzle.
  os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')
  plan = run_config.check(config)
  _use_compilation_cache()
  workdir = pathlib.Path(_WORKDIR.value or config.workdir)
  settings = {name: value for name, value in command_line.fields(config) if name != 'workdir'}
  settings['checkpoint_sha256'] = _fingerprint(plan.checkpoint)
  records.prepare_workdir(workdir, settings)
  samples = records.Samples(workdir, plan.task_name)
  progress = runner.Progress(plan, sys.stderr)
  try:
    runner.run(plan, runner.load_engine(plan), samples, progress)
  except KeyboardInterrupt:
    raise KeyboardInterrupt(
        f'interrupted with {len(samples.rows)} rows in {samples.path}; the same command continues'
    ) from None
  finally:
    progress.close()
    samples.close()
  write_outputs(workdir, plan, settings, samples)


def write_outputs(
    workdir: pathlib.Path, plan: run_config.Plan, settings: dict[str, Any],
    samples: records.Samples) -> None:
  """Everything that is a function of the rows: results, figures, report and the printed table."""
  config = plan.config
  cells = summary.cells(samples.rows.values(), config.strategies, config.lengths)
  results = workdir / f'results_{samples.stamp}.json'
  records.write_json(
      results, summary.results(plan.task_name, settings, samples.stamp, cells))
  drawn = [workdir / 'figures' / 'accuracy.png']
  figures.accuracy(cells, drawn[0])
  if any(cell.mass for cell in cells):
    drawn.append(workdir / 'figures' / 'attention_mass.png')
    figures.attention_mass(cells, drawn[1])
  page = workdir / 'report.html'
  report.write(page, settings, samples.stamp, cells, drawn)
  print(summary.table(cells))
  print('\n' + '\n'.join(map(str, (samples.path, results, *drawn, page))))


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
