"""results_*.json: the shape that readers of lm-evaluation-harness expect, and the cells in full."""

from collections.abc import Sequence
import dataclasses
import itertools
import math
from typing import Any

from tttjax.report.cell import Cell
from tttjax.report.comparing import Comparison
from tttjax.report.labels import slug
from tttjax.report.printed import extra_flops
from tttjax.report.runs import Run
from tttjax.report.statistics import PairedDifference
from tttjax.report.task_averages import averages
from tttjax.tasks.metrics import metric as metric_of


def results(
  runs: Sequence[Run],
  cells: Sequence[Cell],
  compared: Sequence[Comparison],
  figures: Sequence[str],
  stamp: str,
) -> dict[str, Any]:
  """The JSON value; a cell is a task of the harness. `figures` are names of files."""
  names = _names(cells)
  pairs = list(zip(names, cells))
  return {
    "results": {name: _scores(name, cell) for name, cell in pairs},
    "configs": {
      name: {
        "task": name,
        "output_type": "generate_until",
        "num_fewshot": 0,
        "metadata": {
          "task": cell.task,
          "strategy": cell.strategy,
          "label": cell.label,
          "length": cell.length,
          "model": cell.model,
          "run": cell.run,
        },
      }
      for name, cell in pairs
    },
    "versions": {name: 1 for name in names},
    "n-shot": {name: 0 for name in names},
    "higher_is_better": {
      name: {metric: metric_of(metric).higher_is_better for metric in (*cell.metrics, *cell.corpus)}
      for name, cell in pairs
    },
    "n-samples": {
      name: {"original": cell.score.n, "effective": cell.score.n} for name, cell in pairs
    },
    "config": runs[0].config if len(runs) == 1 else {run.label: run.config for run in runs},
    "git_hash": runs[0].git_hash if len(runs) == 1 else {r.label: r.git_hash for r in runs},
    "date": stamp,
    "figures": list(figures),
    "cells": [_cell(name, cell) for name, cell in pairs],
    "averages": [_json(average) for average in averages(cells)],
    "comparisons": [
      _json({**_fields(c), "difference": _difference(c.difference)}) for c in compared
    ],
  }


def _names(cells: Sequence[Cell]) -> list[str]:
  """A name for each cell: safe in file names, and its own."""
  several = lambda values: len(set(values)) > 1
  runs, models = several(c.run for c in cells), several(c.model for c in cells)
  names: list[str] = []
  for cell in cells:
    parts = [
      cell.task,
      cell.strategy,
      str(cell.length),
      *([cell.model] if models else []),
      *([cell.run] if runs else []),
    ]
    plain = "_".join(map(slug, parts))
    numbered = (f"{plain}_{i}" for i in itertools.count(2))
    name = plain
    while name in names:
      name = next(numbered)
    names.append(name)
  return names


def _scores(name: str, cell: Cell) -> dict[str, Any]:
  scores: dict[str, Any] = {"alias": name}
  for metric, estimate in {**cell.metrics, **cell.corpus}.items():
    scores[f"{metric},none"] = _finite(estimate.mean)
    scores[f"{metric}_stderr,none"] = _finite(estimate.stderr)
  if cell.gain:
    scores[f"{cell.metric}_gain,none"] = _finite(cell.gain.gain.mean)
    scores[f"{cell.metric}_gain_stderr,none"] = _finite(cell.gain.gain.stderr)
  return scores


def _cell(name: str, cell: Cell) -> dict[str, Any]:
  gain = cell.gain and {**_difference(cell.gain), "mcnemar_p": cell.mcnemar_p}
  return _json(
    {
      "name": name,
      "run": cell.run,
      "model": cell.model,
      "task": cell.task,
      "strategy": cell.strategy,
      "label": cell.label,
      "family": cell.family,
      "options": cell.options,
      "task_family": cell.task_family,
      "task_options": cell.task_options,
      "length": cell.length,
      "context_tokens": cell.context_tokens,
      "n": cell.score.n,
      "contexts": cell.score.clusters,
      "metric": cell.metric,
      "score": cell.score.mean,
      "stderr": cell.score.stderr,
      "interval": cell.score.interval(),
      "chance": cell.chance,
      "metrics": cell.metrics,
      "slices": cell.slices,
      "slice_differences": {
        name: {value: _difference(gain) for value, gain in gains.items()}
        for name, gains in cell.slice_gains.items()
      },
      "kept": cell.kept,
      "corpus_metrics": cell.corpus,
      "difference_to_reference": gain,
      "corpus_differences": {
        k: {**_difference(v), "smallest_p_value": v.smallest_p} for k, v in cell.corpus_gain.items()
      },
      "budget": cell.budget,
      "flops": cell.flops,
      "flops_after_prefill": extra_flops(cell),
      "amortised_flops": cell.amortised_flops,
      "phase_flops": cell.phase_flops,
      "seconds": cell.seconds,
      "every_context_compiled": cell.compiling,
      "tokens": cell.tokens,
      "thinking_tokens": cell.thinking_tokens,
      "truncated": cell.truncated,
      "unclosed": cell.unclosed,
      "mechanism": cell.mechanism,
      "mechanism_differences": {k: _difference(v) for k, v in cell.mechanism_gain.items()},
      "mass_by_layer": list(cell.mass_by_layer),
      "failures": cell.failures,
      "fallbacks": cell.fallbacks,
    }
  )


def _difference(paired: PairedDifference) -> dict[str, Any]:
  gain = paired.gain
  return {
    "mean": gain.mean,
    "stderr": gain.stderr,
    "interval": gain.interval(),
    "p_value": paired.p_value,
    "n": gain.n,
    "contexts": gain.clusters,
  }


def _fields(value: Any) -> dict[str, Any]:
  return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}


def _json(value: Any) -> Any:
  """Dataclasses to objects, tuples to lists, numbers that are not finite to null."""
  if dataclasses.is_dataclass(value):
    value = _fields(value)
  if isinstance(value, dict):
    return {key: _json(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_json(item) for item in value]
  return _finite(value) if isinstance(value, float) else value


def _finite(value: float) -> float | None:
  return value if math.isfinite(value) else None
