"""Rows -> cells: one run, model, task, strategy and length, all seeds together."""

from collections.abc import Callable, Hashable, Iterable, Sequence
import dataclasses
import math
import statistics as plain_statistics
from typing import Any

import numpy as np

from tttjax import rows as schema
from tttjax.report import corpus
from tttjax.report.labels import is_reference, strategy_label, task_label
from tttjax.report.runs import Row, Run
from tttjax.report.statistics import (
  Estimate,
  PairedDifference,
  clustered_mean,
  mcnemar_p,
  paired_difference,
)

Measure = Callable[[Row], float | None]

# What `row['mechanism']` may hold for one question, beside mass_by_layer.
MECHANISM = ("mass", "margin", "lead", "heldout_before", "heldout_after", "reference_logprob")
_COMPARED = ("mass", "margin", "lead", "reference_logprob")


@dataclasses.dataclass(frozen=True)
class Budget:
  """What a cell's strategy was given, means over rows (matched budgets differ by context).

  Attributes:
    steps, span, learning_rate: N, k and the rate of test-time training.
    thinking_tokens: per sample.
    samples: of self-consistency, beams of beam search.
    flops: model FLOPs given after the prefill.
  """

  steps: float
  span: float
  learning_rate: float
  thinking_tokens: float
  samples: float
  flops: float


@dataclasses.dataclass(frozen=True)
class Cell:
  """One strategy at one length. FLOPs and tokens are means per question, seconds per context.

  Examples that failed count as wrong in `metrics` and `slices` and are left out of every cost.

  Attributes:
    run, model, task, strategy, length: which cell.
    family, options: of the strategy.
    task_family, task_options: of the task.
    context_tokens: mean number of tokens of a context.
    metrics: the task's, the primary one first, clustered by (seed, context).
    corpus: the combinations of tasks.metrics, with bootstrap errors.
    chance: mean primary score of guessing; nan where it is not known of every question.
    slices: the primary metric by slice and value, such as slices['anomaly']['CALC_ERROR'].
    gain: primary metric minus the reference's on the same questions; None for the reference
      itself, and where it answered none of them.
    mcnemar_p: exact McNemar test of the gain; None where a context has several questions, or
      the metric other values than 0 and 1.
    corpus_gain: the differences of `corpus` from the reference, by the paired bootstrap.
    flops: model FLOPs of a question that is charged its context's prefill and adaptation.
    amortised_flops: the same with these two shared by the context's questions.
    phase_flops: `flops` by phase.
    budget: what was given.
    seconds: by phase, of all questions of a context together; median over contexts in which
      nothing was compiled. {} where no context has such a measurement.
    compiling: whether that is because something was compiled in every context.
    tokens: generated, all samples together.
    thinking_tokens: per sample.
    truncated: share of all samples that were cut off at the longest output; nan where unknown.
    unclosed: share of all thoughts that were closed by force; nan where unknown, or none thought.
    mechanism: of MECHANISM, those measured; and 'heldout_change', the loss after minus before.
    mechanism_gain: paired differences from the reference strategy, of mass, margin, lead and the
      reference answer's log-probability.
    mass_by_layer: mean attention mass on the evidence of each layer; () where not measured.
    failures: rows with an error.
    fallbacks: rows answered with the base weights because the adaptation was not finite.
  """

  run: str
  model: str
  task: str
  strategy: str
  family: str
  options: dict[str, str]
  task_family: str
  task_options: dict[str, str]
  length: int
  context_tokens: float
  metrics: dict[str, Estimate]
  corpus: dict[str, Estimate]
  chance: float
  slices: dict[str, dict[str, Estimate]]
  gain: PairedDifference | None
  mcnemar_p: float | None
  corpus_gain: dict[str, PairedDifference]
  flops: float
  amortised_flops: float
  phase_flops: dict[str, float]
  budget: Budget
  seconds: dict[str, float]
  compiling: bool
  tokens: float
  thinking_tokens: float
  truncated: float
  unclosed: float
  mechanism: dict[str, Estimate]
  mechanism_gain: dict[str, PairedDifference]
  mass_by_layer: tuple[float, ...]
  failures: int
  fallbacks: int

  @property
  def metric(self) -> str:
    """The name of the primary metric."""
    return next(iter(self.metrics))

  @property
  def score(self) -> Estimate:
    """The primary metric: what figures and comparisons show."""
    return self.metrics[self.metric]

  @property
  def label(self) -> str:
    """Of the strategy."""
    return strategy_label(self.strategy)

  @property
  def task_label(self) -> str:
    return task_label(self.task)

  @property
  def is_reference(self) -> bool:
    """Whether all others are compared with its strategy."""
    return is_reference(self.family, self.options)

  @property
  def group(self) -> tuple[str, str]:
    """(task, model): cells of a group share tables and figures."""
    return self.task, self.model

  @property
  def total_seconds(self) -> float:
    """Of all phases; nan without a measurement."""
    return sum(self.seconds.values()) if self.seconds else math.nan


def cluster_of(row: Row) -> Hashable:
  """The context: those of different seeds are different."""
  return row["seed"], row["context"]


def question_of(row: Row) -> Hashable:
  """What rows of a model and task share when they answer the same question."""
  return row["seed"], row["context"], row["question"], row["length"]


def cells(runs: Sequence[Run]) -> list[Cell]:
  """The cells that have rows: by task and model, then length, then strategy, then run."""
  groups: dict[tuple, list[Row]] = {}
  for run in runs:
    for row in run.rows:
      key = row["task"], row["model"], row["length"], row["strategy"], run.label
      groups.setdefault(key, []).append(row)
  baselines = Baselines(runs)
  found = [_cell(run, rows, baselines.of(run, rows)) for (_, _, _, _, run), rows in groups.items()]
  rank = lambda values: {value: i for i, value in enumerate(dict.fromkeys(values))}
  order = rank(cell.group for cell in found)
  strategies = rank(cell.strategy for cell in sorted(found, key=lambda c: not c.is_reference))
  return sorted(found, key=lambda c: (order[c.group], c.length, strategies[c.strategy]))


class Baselines:
  """Finds the reference's rows that a cell is compared with: its own run's, else any run's."""

  def __init__(self, runs: Sequence[Run]):
    self._rows: dict[tuple, dict[str, list[Row]]] = {}
    for run in runs:
      for row in run.rows:
        if is_reference(row["family"], row["options"]):
          place = row["model"], row["task"], row["length"]
          self._rows.setdefault(place, {}).setdefault(run.label, []).append(row)

  def of(self, run: str, rows: Sequence[Row]) -> list[Row]:
    """The reference's rows of the model, task and length of a cell's rows; [] without any."""
    by_run = self._rows.get((rows[0]["model"], rows[0]["task"], rows[0]["length"]), {})
    if run in by_run:
      return by_run[run]
    # Another run's contexts are the same only if they have the same text.
    texts = {cluster_of(row): row["doc"].get("context_sha256") for row in rows}
    found = {
      question_of(row): row
      for others in by_run.values()
      for row in others
      if texts.get(cluster_of(row)) == row["doc"].get("context_sha256")
    }
    return list(found.values())


def paired(
  rows: Iterable[Row], baseline: Iterable[Row], measure: Measure
) -> PairedDifference | None:
  """The paired difference of a measure; None where no question has both."""
  values = lambda some: {
    question_of(row): value for row in some if (value := measure(row)) is not None
  }
  treatment, base = values(rows), values(baseline)
  if not treatment.keys() & base.keys():
    return None
  return paired_difference(treatment, base, {key: key[:2] for key in treatment})


def _metric(name: str) -> Measure:
  """Measure of a task's metric; 0 where the example failed."""

  def measure(row: Row) -> float | None:
    value = row.get(name, 0.0 if row.get("error") else None)
    return None if value is None else float(value)

  return measure


def mechanism_of(name: str) -> Measure:
  """Measure of one mechanism field; None where it was not measured or is not finite."""

  def measure(row: Row) -> float | None:
    value = (row.get("mechanism") or {}).get(name)
    return float(value) if value is not None and math.isfinite(value) else None

  return measure


def heldout_change(row: Row) -> float | None:
  """Loss on spans that were not trained on, after minus before adaptation, nats per token."""
  before, after = mechanism_of("heldout_before")(row), mechanism_of("heldout_after")(row)
  return None if before is None or after is None else after - before


def _cell(run: str, rows: list[Row], baseline: list[Row]) -> Cell:
  first = rows[0]
  if is_reference(first["family"], first["options"]):
    baseline = []
  pairs = _shared(rows, baseline)
  done = [row for row in rows if not row.get("error")]
  names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
  metrics = {name: e for name in names if (e := _estimate(rows, _metric(name))) is not None}
  measured_seconds = [row for row in done if row["seconds"]]
  timed = [row for row in measured_seconds if not row["compiled"]]
  per_context = {cluster_of(row): row["seconds"] for row in timed}
  phases = list(dict.fromkeys(phase for spent in per_context.values() for phase in spent))
  measured = {name: mechanism_of(name) for name in MECHANISM} | {"heldout_change": heldout_change}
  by_layer = [
    layers for row in done if (layers := (row.get("mechanism") or {}).get("mass_by_layer"))
  ]
  return Cell(
    run=run,
    model=first["model"],
    task=first["task"],
    strategy=first["strategy"],
    family=first["family"],
    options=first["options"],
    task_family=first["task_family"],
    task_options=first["task_options"],
    length=first["length"],
    context_tokens=_mean(row["doc"].get("context_tokens") for row in rows),
    metrics=metrics,
    corpus=corpus.estimates(rows, [cluster_of(row) for row in rows]),
    chance=_chance(rows),
    slices=_slices(rows),
    gain=paired(rows, baseline, schema.primary),
    mcnemar_p=_mcnemar(pairs),
    corpus_gain=corpus.gains(pairs, [cluster_of(row) for row, _ in pairs]),
    flops=_mean(row["flops"] for row in done),
    amortised_flops=_mean(row["amortised_flops"] for row in done),
    phase_flops={
      phase: _mean(row["phase_flops"].get(phase, 0) for row in done)
      for phase in dict.fromkeys(p for row in done for p in row["phase_flops"])
    },
    budget=Budget(
      **{
        field.name: _mean(row["budget"].get(field.name) for row in done)
        for field in dataclasses.fields(Budget)
      }
    ),
    seconds={
      phase: plain_statistics.median(spent.get(phase, 0.0) for spent in per_context.values())
      for phase in phases
    },
    compiling=bool(measured_seconds) and not timed,
    tokens=_mean(row["tokens"] for row in done),
    thinking_tokens=_mean(row["thinking_tokens"] for row in done),
    truncated=_mean(end["answer"] == schema.LIMIT for row in done for end in row["endings"]),
    unclosed=_mean(
      end["thought"] == schema.FORCED
      for row in done
      for end in row["endings"]
      if end["thought"] is not None
    ),
    mechanism={
      name: estimate
      for name, measure in measured.items()
      if (estimate := _estimate(done, measure)) is not None
    },
    mechanism_gain={
      name: gain
      for name in _COMPARED
      if _during(done) == _during(baseline)
      and (gain := paired(done, baseline, measured[name])) is not None
    },
    mass_by_layer=tuple(np.mean(by_layer, axis=0).tolist()) if by_layer else (),
    failures=len(rows) - len(done),
    fallbacks=sum(bool(row.get("fallback")) for row in rows),
  )


def _chance(rows: Sequence[Row]) -> float:
  values = [row["chance"] for row in rows]
  return math.nan if None in values else plain_statistics.fmean(values)


def _slices(rows: Sequence[Row]) -> dict[str, dict[str, Estimate]]:
  """The primary metric of the rows with each value of each slice; values in alphabetical order."""
  found: dict[str, dict[str, list[Row]]] = {}
  for row in rows:
    for name, value in row["slices"].items():
      found.setdefault(name, {}).setdefault(value, []).append(row)
  return {
    name: {value: _estimate(own, schema.primary) for value, own in sorted(values.items())}
    for name, values in found.items()
  }


def _during(rows: Iterable[Row]) -> set[str]:
  """During what rows were measured: other outputs than the baseline's are no paired comparison."""
  return {row["mechanism"]["during"] for row in rows if row.get("mechanism")}


def _estimate(rows: Iterable[Row], measure: Measure) -> Estimate | None:
  found = [(value, cluster_of(row)) for row in rows if (value := measure(row)) is not None]
  return clustered_mean(*zip(*found)) if found else None


def _mean(values: Iterable[Any]) -> float:
  found = [float(value) for value in values if value is not None]
  return plain_statistics.fmean(found) if found else math.nan


def _shared(rows: list[Row], baseline: list[Row]) -> list[tuple[Row, Row]]:
  """The pairs of rows that answer the same question."""
  base = {question_of(row): row for row in baseline}
  return [(row, base[question_of(row)]) for row in rows if question_of(row) in base]


def _mcnemar(pairs: list[tuple[Row, Row]]) -> float | None:
  if not pairs or len({cluster_of(row) for row, _ in pairs}) < len(pairs):
    return None
  own, base = ([schema.primary(row) for row in side] for side in zip(*pairs))
  return mcnemar_p(own, base) if {*own, *base} <= {0.0, 1.0} else None
