"""A run killed at any moment and started again has the rows of an undisturbed one."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from tests import tiny_run

ROOT = pathlib.Path(__file__).resolve().parent.parent
_KILLS = 20
_STRATEGIES = 'in_context,qttt,thinking,qttt_other_context'
# How a run went, not what it found.
_NOT_RESULTS = ('seconds', 'compiled')


def command(checkpoint, workdir):
  fields = {
      'models': checkpoint, 'lengths': '128,192', 'contexts': 3, 'questions': 2, 'ttt.steps': 2,
      'ttt.span': 8, 'sampling.max_new_tokens': 4, 'strategies': _STRATEGIES}
  return [sys.executable, '-m', 'tttjax.main', '--config=configs/quickstart.py',
          f'--workdir={workdir}', *(f'--config.{name}={value}' for name, value in fields.items())]


def rows(workdir):
  (path,) = pathlib.Path(workdir).glob('samples_*.jsonl')
  return [
      {k: v for k, v in json.loads(line).items() if k not in _NOT_RESULTS}
      for line in path.read_text(encoding='utf-8').splitlines()]


@pytest.mark.slow
def test_rows_after_20_kills_equal_those_of_an_undisturbed_run(tmp_path):
  checkpoint = tmp_path / 'checkpoint'
  tiny_run.write(checkpoint)
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'TTTJAX_CACHE': str(tmp_path / 'cache')}
  environment.pop('XLA_FLAGS', None)
  start = lambda workdir: subprocess.Popen(
      command(checkpoint, workdir), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE, text=True)

  plain = start(tmp_path / 'plain')
  assert plain.wait() == 0, plain.stderr.read()
  # With every program cached: the time in which the kills fall.
  begin = time.monotonic()
  warm = start(tmp_path / 'warm')
  assert warm.wait() == 0, warm.stderr.read()
  duration = time.monotonic() - begin

  chance, repaired, partial = random.Random(0), 0, set()
  killed = tmp_path / 'killed'
  for _ in range(_KILLS):
    process = start(killed)
    try:
      process.wait(duration * chance.uniform(0.3, 1.0))
    except subprocess.TimeoutExpired:
      process.send_signal(signal.SIGKILL)
      process.wait()
    error = process.stderr.read()
    assert process.returncode in (0, -signal.SIGKILL), error
    repaired += 'half-written' in error
    found = list(killed.glob('samples_*.jsonl'))
    if found:
      partial.add(found[0].read_text(encoding='utf-8').count('\n'))
      # What kills rarely meet: a line that was being written.
      with open(found[0], 'a', encoding='utf-8') as file:
        file.write('{"doc_id": 1, "do')
  last = start(killed)
  assert last.wait() == 0, last.stderr.read()
  assert len(partial) > 2, 'every kill fell before or after all rows'
  assert repaired
  assert rows(killed) == rows(tmp_path / 'plain')
