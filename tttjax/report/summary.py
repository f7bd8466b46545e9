"""Rows -> cells: one run, model, task, strategy and length, all seeds together."""

from collections.abc import Callable, Hashable, Iterable, Sequence
import dataclasses
import math
import statistics as plain_statistics
from typing import Any

import numpy as np

from tttjax.report import corpus
from tttjax.report.labels import BASELINE
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
MECHANISM = ("mass", "margin", "lead", "heldout_before", "heldout_after")


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

  Examples that failed count as wrong in `metrics` and are left out of every cost.

  Attributes:
    run, model, task, strategy, length: which cell.
    context_tokens: mean number of tokens of a context.
    metrics: 'acc' and the task's others, clustered by (seed, context).
    corpus: metrics of corpus.METRICS, with bootstrap errors.
    gain: accuracy minus in-context's on the same questions; None for in-context itself, and where
      it answered none of them.
    mcnemar_p: exact McNemar test of the gain; None where a context has several questions.
    corpus_gain: the differences of `corpus` from in-context, by the paired bootstrap.
    flops: model FLOPs of a question that is charged its context's prefill and adaptation.
    amortised_flops: the same with these two shared by the context's questions.
    phase_flops: `flops` by phase.
    budget: what was given.
    seconds: by phase, of all questions of a context together; median over contexts in which
      nothing was compiled (`compiling` tells that there was none).
    compiling: see `seconds`.
    tokens: generated, all samples together.
    thinking_tokens: per sample.
    mechanism: of MECHANISM, those measured; and 'heldout_change', the loss after minus before.
    mechanism_gain: paired differences from in-context, of mass, margin and lead.
    mass_by_layer: mean attention mass on the evidence of each layer; () where not measured.
    failures: rows with an error.
    fallbacks: rows answered with the base weights because the adaptation was not finite.
  """

  run: str
  model: str
  task: str
  strategy: str
  length: int
  context_tokens: float
  metrics: dict[str, Estimate]
  corpus: dict[str, Estimate]
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
  mechanism: dict[str, Estimate]
  mechanism_gain: dict[str, PairedDifference]
  mass_by_layer: tuple[float, ...]
  failures: int
  fallbacks: int

  @property
  def accuracy(self) -> Estimate:
    return self.metrics["acc"]

  @property
  def group(self) -> tuple[str, str]:
    """(task, model): cells of a group share tables and figures."""
    return self.task, self.model

  @property
  def total_seconds(self) -> float:
    return sum(self.seconds.values())


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
  strategies = rank([BASELINE, *(cell.strategy for cell in found)])
  return sorted(found, key=lambda c: (order[c.group], c.length, strategies[c.strategy]))


class Baselines:
  """Finds the in-context rows that a cell is compared with: its own run's, else any run's."""

  def __init__(self, runs: Sequence[Run]):
    self._rows: dict[tuple, dict[str, list[Row]]] = {}
    for run in runs:
      for row in run.rows:
        if row["strategy"] == BASELINE:
          place = row["model"], row["task"], row["length"]
          self._rows.setdefault(place, {}).setdefault(run.label, []).append(row)

  def of(self, run: str, rows: Sequence[Row]) -> list[Row]:
    """In-context rows of the model, task and length of a cell's rows; [] where there are none."""
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


def accuracy_of(row: Row) -> float:
  return float(row["acc"])


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
  if first["strategy"] == BASELINE:
    baseline = []
  pairs = _shared(rows, baseline)
  done = [row for row in rows if not row.get("error")]
  names = list(dict.fromkeys(["acc", *(n for row in rows for n in row.get("metrics", ()))]))
  metrics = {name: e for name in names if (e := _estimate(rows, _metric(name))) is not None}
  timed = [row for row in done if not row["compiled"]]
  per_context = {cluster_of(row): row["seconds"] for row in timed or done}
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
    length=first["length"],
    context_tokens=_mean(row["doc"].get("context_tokens") for row in rows),
    metrics=metrics,
    corpus=corpus.estimates(rows, [cluster_of(row) for row in rows]),
    gain=paired(rows, baseline, accuracy_of),
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
    compiling=bool(done) and not timed,
    tokens=_mean(row["tokens"] for row in done),
    thinking_tokens=_mean(row["thinking_tokens"] for row in done),
    mechanism={
      name: estimate
      for name, measure in measured.items()
      if (estimate := _estimate(done, measure)) is not None
    },
    mechanism_gain={
      name: gain
      for name in ("mass", "margin", "lead")
      if _during(done) == _during(baseline)
      and (gain := paired(done, baseline, measured[name])) is not None
    },
    mass_by_layer=tuple(np.mean(by_layer, axis=0).tolist()) if by_layer else (),
    failures=len(rows) - len(done),
    fallbacks=sum(bool(row.get("fallback")) for row in rows),
  )


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
  return mcnemar_p([row["acc"] for row, _ in pairs], [base["acc"] for _, base in pairs])
