"""The report's tables: cells, comparisons, failures, configuration."""

import collections
from collections.abc import Sequence
import math

from tttjax.report.comparing import Comparison
from tttjax.report.labels import (
  count,
  metric_label,
  p_text,
  plus_minus,
  reference,
  scientific,
  strategy_label,
  task_label,
)
from tttjax.report.page.markup import details, table, text
from tttjax.report.printed import extra_flops, thought
from tttjax.report.runs import Run
from tttjax.report.statistics import holm
from tttjax.report.summary import Cell

_PHASES = ("prefill", "adapt", "generate")
_MAX_MESSAGES = 40


def corrected(cells: Sequence[Cell]) -> dict[int, float]:
  """Holm-corrected p-values of all cells' gains, by the cells' id()."""
  compared = [cell for cell in cells if cell.gain]
  values = holm([cell.gain.p_value for cell in compared])
  return {id(cell): p for cell, p in zip(compared, values)}


def scores_table(cells: Sequence[Cell], holm_p: dict[int, float], runs: bool) -> str:
  """Metrics, gains and attention mass, one line per cell of a task and model.

  Args:
    cells: of the group.
    holm_p: of `corrected`, over all groups.
    runs: whether a column names the run.
  """
  others = [
    n
    for n in dict.fromkeys(n for c in cells for n in (*c.metrics, *c.corpus))
    if n != cells[0].metric
  ]
  masses = any("mass" in cell.mechanism for cell in cells)
  trouble = any(cell.failures or cell.fallbacks for cell in cells)
  head = [
    text(metric_label(cells[0].metric)),
    *map(text, others),
    f"gain over<br>{text(strategy_label(reference()))}",
    "p",
    "p, Holm",
    *(["attention<br>mass"] if masses else []),
    "contexts",
    "questions",
    *(["failed", "on base<br>weights"] if trouble else []),
  ]

  def line(cell: Cell) -> list[str]:
    gain, mass = cell.gain, cell.mechanism.get("mass")
    return [
      text(plus_minus(cell.score)),
      *(_metric(cell, name) for name in others),
      text(plus_minus(gain.gain, sign="+")) if gain else "",
      text(p_text(gain.p_value)) if gain else "",
      text(p_text(holm_p[id(cell)])) if gain else "",
      *([text(plus_minus(mass)) if mass else ""] if masses else []),
      f"{cell.score.clusters:,}",
      f"{cell.score.n:,}",
      *([f"{cell.failures or ''}", f"{cell.fallbacks or ''}"] if trouble else []),
    ]

  return _by_cell(cells, head, line, runs)


def costs_table(cells: Sequence[Cell], runs: bool) -> str:
  """What was given and what was used, one line per cell of a task and model."""
  head = [
    "FLOPs<br>used",
    "after<br>prefill",
    "given",
    "shared",
    "steps",
    "span",
    "rate",
    "thinking tokens",
    *(f"seconds,<br>{phase}" for phase in _PHASES),
  ]

  def line(cell: Cell) -> list[str]:
    budget = cell.budget
    given = budget.steps if budget.steps > 0 else 0.0  # nan where every example failed
    return [
      scientific(cell.flops),
      scientific(extra_flops(cell)),
      scientific(budget.flops),
      scientific(cell.amortised_flops),
      *(
        (f"{given:.4g}", f"{budget.span:.4g}", f"{budget.learning_rate:g}")
        if given
        else ("", "", "")
      ),
      thought(cell),
      *(f"{cell.seconds[p]:.2f}" if p in cell.seconds else "" for p in _PHASES),
    ]

  return _by_cell(cells, head, line, runs)


def _by_cell(cells: Sequence[Cell], head: list[str], line, runs: bool) -> str:
  breaks = [i for i in range(1, len(cells)) if cells[i].length != cells[i - 1].length]
  rows = [
    [
      f"{cell.length:,}",
      *([text(cell.run)] if runs else []),
      text(strategy_label(cell.strategy)),
      *line(cell),
    ]
    for cell in cells
  ]
  names = ["length", *(["run"] if runs else []), "strategy"]
  return table([*names, *head], rows, left=range(1, len(names)), breaks=breaks)


def _metric(cell: Cell, name: str) -> str:
  estimate = cell.metrics.get(name) or cell.corpus.get(name)
  return text(plus_minus(estimate)) if estimate else ""


def comparisons_table(compared: Sequence[Comparison], models: dict[str, str], runs: bool) -> str:
  """Every comparison of the report with its p-values."""
  tasks, named = (len({getattr(c, name) for c in compared}) > 1 for name in ("task", "model"))
  head = [
    *(["task"] if tasks else []),
    *(["model"] if named else []),
    *(["run"] if runs else []),
    "strategy",
    "compared with",
    "difference",
    "contexts",
    "questions",
    "p",
    "p, Holm",
  ]
  rows = []
  for c in compared:
    gain = c.difference.gain
    rows.append(
      [
        *([text(task_label(c.task))] if tasks else []),
        *([text(models[c.model])] if named else []),
        *([text(c.run)] if runs else []),
        text(strategy_label(c.treatment)),
        text(strategy_label(c.baseline)),
        text(plus_minus(gain, sign="+")),
        f"{gain.clusters:,}",
        f"{gain.n:,}",
        text(p_text(c.difference.p_value)),
        text(p_text(c.holm_p)),
      ]
    )
  return table(head, rows, left=range(len(head) - 5))


def failures(runs: Sequence[Run]) -> str:
  """Failed examples and fallbacks by cell and message; '' where there are none."""
  groups: collections.Counter = collections.Counter()
  for run in runs:
    for row in run.rows:
      for kind in ("error", "fallback"):
        if row.get(kind):
          place = row["task"], row["model"], row["length"], row["strategy"], run.label
          groups[kind, str(row[kind]), place] += 1
  if not groups:
    return ""
  words = {"error": "failed, counted wrong", "fallback": "answered with the base weights"}
  rows = [
    [
      words[kind],
      f"{number:,}",
      f"{place[2]:,}",
      text(strategy_label(place[3])),
      text(f"{task_label(place[0])}, {place[1]}" + (f", {place[4]}" if place[4] else "")),
      f"<code>{text(message[:400])}</code>",
    ]
    for (kind, message, place), number in groups.most_common(_MAX_MESSAGES)
  ]
  left_out = len(groups) - len(rows)
  more = f"<p>{count(left_out, 'more message')} not shown.</p>" if left_out else ""
  return (
    table(
      ["what", "questions", "length", "strategy", "task, model", "message"], rows, left=(0, 3, 4, 5)
    )
    + more
  )


def configuration(runs: Sequence[Run]) -> str:
  """All fields of one run; of several, those that differ side by side and then the others."""
  code = lambda value: f"<code>{text(value)}</code>"
  names = list(dict.fromkeys(name for run in runs for name in run.config))
  shown = lambda run, name: _value(run.config[name]) if name in run.config else "(absent)"
  same = [name for name in names if len({shown(run, name) for run in runs}) == 1]
  different = [name for name in names if name not in same]
  common = table(["field", "value"], [[code(n), code(shown(runs[0], n))] for n in same], (0, 1))
  if len(runs) == 1:
    return details(count(len(same), "field"), common)
  if not different:
    return "<p>All runs have the same configuration.</p>" + details("Fields", common)
  side = table(
    ["run", *map(code, different)],
    [[text(run.label), *(code(shown(run, n)) for n in different)] for run in runs],
    range(len(different) + 1),
  )
  return f"<p>The runs differ in {count(len(different), 'field')}:</p>{side}" + details(
    f"{count(len(same), 'field')} that all runs share", common
  )


def _value(value) -> str:
  if isinstance(value, (list, tuple)):
    return ", ".join(map(_value, value))
  if isinstance(value, float) and math.isfinite(value):
    return f"{value:g}"
  return str(value)
