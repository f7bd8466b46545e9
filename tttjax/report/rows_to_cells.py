"""Rows -> cells: one run, model, task, strategy and length, all seeds together."""

from collections.abc import Iterable, Sequence
import dataclasses
import math
import statistics as plain_statistics
from typing import Any

import numpy as np

from tttjax import rows as schema
from tttjax.report import corpus
from tttjax.report.cell import Budget, Cell
from tttjax.report.labels import is_reference
from tttjax.report.measures import (
  COMPARED,
  MECHANISM,
  MIXED,
  Measure,
  heldout_change,
  mechanism_of,
  primary_name,
  score_of,
)
from tttjax.report.pairing import Baselines, cluster_of, paired, pairs_of
from tttjax.report.runs import Row, Run
from tttjax.report.statistics import Estimate, PairedDifference, clustered_mean, mcnemar_p


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


def _cell(run: str, rows: list[Row], baseline: list[Row]) -> Cell:
  first = rows[0]
  if is_reference(first["family"], first["options"]):
    baseline = []
  pairs = pairs_of(rows, baseline)
  done = [row for row in rows if not row.get("error")]
  names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
  if primary_name(rows) == MIXED:
    having = lambda name: [row for row in rows if name in row["metrics"]]
    metrics = {name: _estimate(having(name), score_of(name)) for name in names}
    metrics = {MIXED: _estimate(rows, schema.primary), **metrics}
  else:
    metrics = {name: _estimate(rows, score_of(name)) for name in names}
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
    slice_gains=_slice_gains(rows, baseline),
    kept=_mean(row["doc"].get("kept", 1.0) for row in rows),
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
      end["thought"] != schema.CLOSED
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
      for name in COMPARED
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


def _slice_gains(
  rows: Sequence[Row], baseline: Sequence[Row]
) -> dict[str, dict[str, PairedDifference]]:
  """The gains of the rows with each value of each slice of which there are several."""
  found: dict[str, dict[str, PairedDifference]] = {}
  for name in dict.fromkeys(name for row in rows for name in row["slices"]):
    values = sorted({row["slices"][name] for row in rows if name in row["slices"]})
    for value in values if len(values) > 1 else ():
      own = [row for row in rows if row["slices"].get(name) == value]
      if (gain := paired(own, baseline, schema.primary)) is not None:
        found.setdefault(name, {})[value] = gain
  return found


def _during(rows: Iterable[Row]) -> set[str]:
  """During what rows were measured: other outputs than the baseline's are no paired comparison."""
  return {row["mechanism"]["during"] for row in rows if row.get("mechanism")}


def _estimate(rows: Iterable[Row], measure: Measure) -> Estimate | None:
  found = [(value, cluster_of(row)) for row in rows if (value := measure(row)) is not None]
  return clustered_mean(*zip(*found)) if found else None


def _mean(values: Iterable[Any]) -> float:
  found = [float(value) for value in values if value is not None]
  return plain_statistics.fmean(found) if found else math.nan


def _mcnemar(pairs: list[tuple[Row, Row]]) -> float | None:
  if not pairs or len({cluster_of(row) for row, _ in pairs}) < len(pairs):
    return None
  own, base = ([schema.primary(row) for row in side] for side in zip(*pairs))
  return mcnemar_p(own, base) if {*own, *base} <= {0.0, 1.0} else None
