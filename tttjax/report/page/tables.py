"""The report's tables of numbers: scores, slices, costs, comparisons."""

from collections.abc import Callable, Sequence
import math

from tttjax.report.cell import Cell
from tttjax.report.comparing import Comparison
from tttjax.report.labels import metric_label, reference, strategy_label, task_label
from tttjax.report.page.markup import (
  EMPTY,
  Column,
  Table,
  Value,
  estimate,
  number,
  p_value,
  power,
)
from tttjax.report.printed import extra_flops, other_metrics, shows_chance, sliced_by, thought
from tttjax.report.statistics import holm
from tttjax.report.task_averages import Average
from tttjax.tasks.metrics import headline_of

Line = tuple[Column, Callable[[Cell], Value]]

_PHASES = {
  "prefill": "seconds to read the context",
  "adapt": "seconds of training on it",
  "generate": "seconds to answer its questions, all in one batch",
}


def corrected(cells: Sequence[Cell]) -> dict[int, float]:
  """Holm-corrected p-values of all cells' gains, by the cells' id()."""
  compared = [cell for cell in cells if cell.gain]
  values = holm([cell.gain.p_value for cell in compared])
  return {id(cell): p for cell, p in zip(compared, values)}


def scores(cells: Sequence[Cell], holm_p: dict[int, float], runs: bool) -> Table:
  """Metrics, gains and attention mass, one line per cell of a task and model.

  Args:
    cells: of the group.
    holm_p: of `corrected`, over all groups.
    runs: whether a column names the run.
  """
  metric, base = metric_label(cells[0].metric), strategy_label(reference())
  others = other_metrics(cells)
  lines: list[Line] = [
    (
      Column(metric, f"mean {metric} over the questions, ± one standard error"),
      lambda c: estimate(c.score),
    ),
    *_if(
      shows_chance(cells),
      Column("chance", f"{metric} of guessing"),
      lambda c: number(c.chance, ".3f"),
    ),
    *(
      (
        Column(metric_label(name), f"the task's score {name}, ± one standard error"),
        lambda c, name=name: estimate(c.metrics.get(name) or c.corpus.get(name)),
      )
      for name in others
    ),
    *(
      (
        Column(
          f"{metric_label(name)} gain",
          f"{metric_label(name)} minus that of {base} on the same questions, ± one standard error",
        ),
        lambda c, name=name: (
          estimate(c.corpus_gain[name].gain, sign="+") if name in c.corpus_gain else EMPTY
        ),
      )
      for name in filter(None, [headline_of(others)])
      if any(name in cell.corpus_gain for cell in cells)
    ),
    (
      Column("gain", f"{metric} minus that of {base} on the same questions, ± one standard error"),
      lambda c: estimate(c.gain.gain, sign="+") if c.gain else EMPTY,
    ),
    (
      Column("p", "how often chance alone makes a difference at least as large as the gain"),
      lambda c: p_value(c.gain.p_value) if c.gain else EMPTY,
    ),
    (
      Column("p, corrected", "p, allowing for the number of comparisons in these tables (Holm)"),
      lambda c: p_value(holm_p[id(c)]) if c.gain else EMPTY,
    ),
    *_if(
      any("mass" in cell.mechanism for cell in cells),
      Column("mass", "share of the attention on the places with the answer, ± one standard error"),
      lambda c: estimate(c.mechanism.get("mass")),
    ),
    *_if(
      any("reference_logprob" in cell.mechanism_gain for cell in cells),
      Column(
        "log-probability",
        f"of the reference answer, gain over {base} on the same questions, nats, ± one standard"
        " error",
      ),
      lambda c: _gained(c, "reference_logprob"),
    ),
    (Column("contexts", "how many"), lambda c: number(c.score.clusters)),
    (Column("questions", "how many, all contexts together"), lambda c: number(c.score.n)),
    *_endings(cells),
  ]
  return _by_cell(cells, lines, runs)


def _gained(cell: Cell, name: str) -> Value:
  """What a mechanism's number gained over the reference strategy."""
  found = cell.mechanism_gain.get(name)
  return estimate(found.gain, sign="+") if found else EMPTY


def _endings(cells: Sequence[Cell]) -> list[Line]:
  """What went wrong, where anything did."""
  return [
    *_if(
      any(cell.kept < 1 for cell in cells),
      Column("kept", "share of the documents' tokens that was left where they were cut"),
      lambda c: number(c.kept, ".1%"),
    ),
    *_if(
      any(cell.truncated > 0 for cell in cells),
      Column("cut off", "share of the answers that reached the longest output allowed"),
      lambda c: _positive(c.truncated, ".1%"),
    ),
    *_if(
      any(cell.unclosed > 0 for cell in cells),
      Column("unclosed", "share of the thoughts that did not end by themselves"),
      lambda c: _positive(c.unclosed, ".1%"),
    ),
    *_if(
      any(cell.failures for cell in cells),
      Column("failed", "questions that raised an error; they count as wrong"),
      lambda c: _positive(c.failures),
    ),
    *_if(
      any(cell.fallbacks for cell in cells),
      Column("fell back", "questions answered with the unchanged weights: the training diverged"),
      lambda c: _positive(c.fallbacks),
    ),
  ]


def _positive(value: float, form: str = ",") -> Value:
  return number(value, form) if value > 0 else EMPTY


def slices(cells: Sequence[Cell], runs: bool) -> dict[str, Table]:
  """The primary metric by the values of each slice of which there are several, by its name."""
  found = {}
  for name in sliced_by(cells):
    values = sorted({value for cell in cells for value in cell.slices.get(name, ())})
    lines: list[Line] = []
    for value in values:
      about = f"{metric_label(cells[0].metric)} where {name} is {value}"
      part = lambda c, name=name, value=value: estimate(c.slices.get(name, {}).get(value))
      lines.append((Column(value, about), part))
      gained = lambda c, name=name, value=value: _part_gain(c, name, value)
      lines.append((Column("gain", f"{about}, over {strategy_label(reference())}"), gained))
    found[name.replace("_", " ")] = _by_cell(cells, lines, runs)
  return found


def _part_gain(cell: Cell, name: str, value: str) -> Value:
  found = cell.slice_gains.get(name, {}).get(value)
  return estimate(found.gain, sign="+") if found else EMPTY


def averaged(own: Sequence[Average], models: dict[str, str], runs: bool) -> Table:
  """The averages over the tasks of one benchmark."""
  columns = [
    *([Column("run", text=True)] if runs else []),
    *([Column("model", text=True)] if len(models) > 1 else []),
    Column("length", "of the context"),
    Column("strategy", text=True, main=True),
    Column("mean", "of the tasks' scores, each with the same weight, ± one standard error"),
    Column("gain", f"over {strategy_label(reference())}, ± one standard error"),
    Column("tasks", "how many"),
  ]
  rows = [
    [
      *([Value(a.run)] if runs else []),
      *([Value(models[a.model])] if len(models) > 1 else []),
      number(a.length),
      Value(strategy_label(a.strategy)),
      estimate(a.score),
      estimate(a.gain, sign="+") if a.gain else EMPTY,
      number(a.tasks),
    ]
    for a in own
  ]
  return Table(columns, rows)


def costs(cells: Sequence[Cell], runs: bool) -> Table:
  """What was given and what was used, one line per cell of a task and model."""
  lines: list[Line] = [
    (
      Column("FLOPs used", "of one question that pays for its whole context"),
      lambda c: power(c.flops),
    ),
    (Column("after reading", "of these, after the prefill"), lambda c: power(extra_flops(c))),
    (
      Column("given", "FLOPs allowed after the prefill; strategies are matched on it"),
      lambda c: power(c.budget.flops),
    ),
    (
      Column("shared", "FLOPs used, reading and training divided among the context's questions"),
      lambda c: power(c.amortised_flops),
    ),
    (Column("steps", "training steps"), lambda c: _trained(c, c.budget.steps)),
    (Column("span", "tokens of a training step"), lambda c: _trained(c, c.budget.span)),
    (Column("rate", "learning rate"), lambda c: _trained(c, c.budget.learning_rate, "g")),
    (
      Column("thought", "thinking tokens used, of those allowed; × samples"),
      lambda c: Value(thought(c).replace(" x", " × "), c.thinking_tokens) if thought(c) else EMPTY,
    ),
    *(
      (Column(f"{phase}, s", about), lambda c, p=phase: number(c.seconds.get(p, math.nan), ".2f"))
      for phase, about in _PHASES.items()
      if any(phase in cell.seconds for cell in cells)
    ),
  ]
  return _by_cell(cells, lines, runs)


def _trained(cell: Cell, value: float, form: str = ".4g") -> Value:
  # nan where every example failed
  return number(value, form) if cell.budget.steps > 0 else EMPTY


def _if(shown: bool, column: Column, value: Callable[[Cell], Value]) -> list[Line]:
  return [(column, value)] if shown else []


def _by_cell(cells: Sequence[Cell], lines: Sequence[Line], runs: bool) -> Table:
  names: list[Line] = [
    (Column("length", "of the context"), lambda c: number(c.length)),
    *_if(runs, Column("run", text=True), lambda c: Value(c.run)),
    (Column("strategy", text=True, main=True), lambda c: Value(c.label)),
  ]
  every = [*names, *lines]
  return Table(
    [column for column, _ in every],
    [[value(cell) for _, value in every] for cell in cells],
    frozenset(i for i in range(1, len(cells)) if cells[i].length != cells[i - 1].length),
  )


def comparisons(compared: Sequence[Comparison], models: dict[str, str], runs: bool) -> Table:
  """Every comparison of the report with its interval and p-values."""
  several = lambda name: len({getattr(c, name) for c in compared}) > 1
  columns = [
    *([Column("task", text=True)] if several("task") else []),
    *([Column("model", text=True)] if several("model") else []),
    *([Column("run", text=True)] if runs else []),
    Column("strategy", text=True, main=True),
    Column("compared with", text=True),
    Column("difference", "on the same questions, all lengths together, ± one standard error"),
    Column("from", "lower end of the difference's 95% interval"),
    Column("to", "upper end of the difference's 95% interval"),
    Column("p", "how often chance alone makes a difference at least as large"),
    Column("p, corrected", "p, allowing for the number of lines of this table (Holm)"),
    Column("contexts", "how many, each with its questions at every length"),
    Column("questions", "how many, all lengths together"),
  ]
  rows = []
  for c in compared:
    gain = c.difference.gain
    low, high = gain.interval()
    rows.append(
      [
        *([Value(task_label(c.task))] if several("task") else []),
        *([Value(models[c.model])] if several("model") else []),
        *([Value(c.run)] if runs else []),
        Value(strategy_label(c.treatment)),
        Value(strategy_label(c.baseline)),
        estimate(gain, sign="+"),
        number(low, "+.3f"),
        number(high, "+.3f"),
        p_value(c.difference.p_value),
        p_value(c.holm_p),
        number(gain.clusters),
        number(gain.n),
      ]
    )
  return Table(columns, rows)
