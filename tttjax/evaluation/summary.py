"""Rows -> cells (strategy x length) -> the printed table and results_*.json."""

import dataclasses
import math
import pathlib
import statistics as plain_statistics
import subprocess
from typing import Any, Iterable, Sequence

from tttjax.evaluation.records import Row
from tttjax.evaluation.statistics import (
    Estimate, PairedDifference, clustered_mean, paired_difference)

BASELINE = 'in_context'


@dataclasses.dataclass(frozen=True)
class Cell:
  """One strategy at one length. FLOPs, tokens are means per question, seconds per context.

  Attributes:
    strategy, length: which cell.
    accuracy: share of right answers.
    gain: accuracy minus in-context's on the same questions; None without that strategy.
    flops: model FLOPs of a question that is charged its context's prefill and adaptation.
    amortised_flops: the same with these two shared by the context's questions.
    seconds: by phase, of all questions of a context together; median over contexts in which
      nothing was compiled (`compiling` tells that there was none).
    tokens, thinking_tokens: generated.
    budget_steps, budget_thinking: N and M that the cell could spend, mean over contexts.
    mass: attention mass on the evidence; None where not measured.
    mass_gain: its difference from in-context's.
  """

  strategy: str
  length: int
  accuracy: Estimate
  gain: PairedDifference | None
  flops: float
  amortised_flops: float
  seconds: dict[str, float]
  compiling: bool
  tokens: float
  thinking_tokens: float
  budget_steps: float
  budget_thinking: float
  mass: Estimate | None
  mass_gain: PairedDifference | None

  @property
  def total_seconds(self) -> float:
    return sum(self.seconds.values())


def cells(rows: Iterable[Row], strategies: Sequence[str], lengths: Sequence[int]) -> list[Cell]:
  """The cells that have rows, lengths outermost."""
  groups: dict[tuple[str, int], list[Row]] = {}
  for row in rows:
    groups.setdefault((row['strategy'], row['length']), []).append(row)
  return [
      _cell(strategy, length, groups[strategy, length], groups.get((BASELINE, length), []))
      for length in lengths for strategy in strategies if (strategy, length) in groups]


def _cell(strategy: str, length: int, rows: list[Row], baseline: list[Row]) -> Cell:
  contexts = [row['context'] for row in rows]
  has_mass = all(row['evidence_mass'] is not None for row in rows)
  compared = baseline and strategy != BASELINE
  timed = [row for row in rows if not row['compiled']]
  per_context = {row['context']: row['seconds'] for row in timed or rows}
  mean = lambda values: plain_statistics.fmean(values)
  return Cell(
      strategy=strategy,
      length=length,
      accuracy=clustered_mean([row['acc'] for row in rows], contexts),
      gain=_paired(rows, baseline, 'acc') if compared else None,
      flops=mean(row['flops'] for row in rows),
      amortised_flops=mean(row['amortised_flops'] for row in rows),
      seconds={
          phase: plain_statistics.median(seconds[phase] for seconds in per_context.values())
          for phase in rows[0]['seconds']},
      compiling=not timed,
      tokens=mean(row['tokens'] for row in rows),
      thinking_tokens=mean(row['thinking_tokens'] for row in rows),
      budget_steps=mean(row['budget']['steps'] for row in rows),
      budget_thinking=mean(row['budget']['thinking_tokens'] for row in rows),
      mass=clustered_mean([r['evidence_mass'] for r in rows], contexts) if has_mass else None,
      mass_gain=_paired(rows, baseline, 'evidence_mass') if compared and has_mass else None,
  )


def _paired(rows: list[Row], baseline: list[Row], field: str) -> PairedDifference:
  by_question = lambda rows: {(r['context'], r['question']): r[field] for r in rows}
  treatment = by_question(rows)
  return paired_difference(treatment, by_question(baseline), {key: key[0] for key in treatment})


def table(cells: Sequence[Cell]) -> str:
  """Plain text, one line per cell."""
  head = ('length', 'strategy', 'accuracy', 'gain over in_context', 'p', 'model FLOPs',
          'amortised', 'thought', 'seconds')
  lines = [head]
  for cell in cells:
    gain = cell.gain
    lines.append((
        str(cell.length), cell.strategy, plus_minus(cell.accuracy),
        plus_minus(gain.gain, sign='+') if gain else '',
        p_text(gain.p_value) if gain else '',
        f'{cell.flops:.2e}', f'{cell.amortised_flops:.2e}', thought(cell),
        f'{cell.total_seconds:.2f}' + ('*' if cell.compiling else '')))
  widths = [max(map(len, column)) for column in zip(*lines)]
  out = []
  for i, line in enumerate(lines):
    if i and line[0] != lines[i - 1][0]:
      out.append('')
    out.append('  '.join(
        text.ljust(width) if j == 1 else text.rjust(width)
        for j, (text, width) in enumerate(zip(line, widths))).rstrip())
  notes = [
      'accuracy and gain: +- one standard error, clustered by context; p: sign-flip test.',
      'model FLOPs: per question, charged the whole prefill and adaptation; amortised: these two'
      ' shared by the questions of a context.',
      'thought: thinking tokens used, of the budget M; a model that stops early costs less than'
      ' the budget that was matched.',
      'seconds: per context, all its questions together, without compilation.']
  if any(cell.compiling for cell in cells):
    notes.append('* includes compilation: no context ran without it.')
  return '\n'.join(out + [''] + notes)


def thought(cell: Cell) -> str:
  """'12 of 1214': mean thinking tokens used, and the budget; empty without thinking."""
  if not cell.thinking_tokens:
    return ''
  return f'{cell.thinking_tokens:.0f} of {cell.budget_thinking:.0f}'


def plus_minus(estimate: Estimate, sign: str = '') -> str:
  """'0.812 +- 0.031'; without a standard error where there is none."""
  error = '' if math.isnan(estimate.stderr) else f' +- {estimate.stderr:.3f}'
  return f'{estimate.mean:{sign}.3f}{error}'


def p_text(value: float) -> str:
  """A p-value to three places; never 0.000, which no permutation test gives."""
  if math.isnan(value):
    return 'n/a'
  return f'{value:.3f}' if value >= 0.001 else '<0.001'


def results(
    task: str, settings: dict[str, Any], stamp: str, cells: Sequence[Cell]) -> dict[str, Any]:
  """The JSON of results_*.json: lm-evaluation-harness's shape, and `cells` in full."""
  name = lambda cell: f'{task}_{cell.strategy}_{cell.length}'
  return {
      'results': {
          name(cell): {
              'alias': name(cell),
              'acc,none': cell.accuracy.mean,
              'acc_stderr,none': _finite(cell.accuracy.stderr),
              **({'acc_gain,none': cell.gain.gain.mean,
                  'acc_gain_stderr,none': _finite(cell.gain.gain.stderr)} if cell.gain else {}),
          } for cell in cells},
      'configs': {
          name(cell): {
              'task': name(cell), 'output_type': 'generate_until', 'num_fewshot': 0,
              'metadata': {'strategy': cell.strategy, 'context_tokens': cell.length}}
          for cell in cells},
      'n-samples': {
          name(cell): {'original': cell.accuracy.n, 'effective': cell.accuracy.n}
          for cell in cells},
      'config': settings,
      'git_hash': _git_hash(),
      'date': stamp,
      'cells': [_json(cell) for cell in cells],
  }


def _json(value: Any) -> Any:
  """Dataclasses to objects, nan to null."""
  if dataclasses.is_dataclass(value):
    return {f.name: _json(getattr(value, f.name)) for f in dataclasses.fields(value)}
  if isinstance(value, dict):
    return {key: _json(item) for key, item in value.items()}
  return _finite(value) if isinstance(value, float) else value


def _finite(value: float) -> float | None:
  return value if math.isfinite(value) else None


def _git_hash() -> str | None:
  """Commit of the source tree, None outside of one."""
  try:
    done = subprocess.run(
        ['git', 'rev-parse', 'HEAD'], cwd=pathlib.Path(__file__).parent, capture_output=True,
        text=True, check=False)
  except OSError:
    return None
  return done.stdout.strip() or None if done.returncode == 0 else None
