"""The printed table: plain ASCII, one line per cell, a block per task and model."""

from collections.abc import Sequence
import itertools
import math

from tttjax.report.labels import (
  model_labels,
  p_text,
  plus_minus,
  scientific,
  strategy_label,
  task_label,
)
from tttjax.report.summary import Cell

_WIDEST_NAME = 44  # of a strategy; what is longer is cut, the results file has it in full


def table(cells: Sequence[Cell]) -> str:
  """Blocks of aligned columns, at most about 140 wide, and what the columns mean."""
  models = model_labels([cell.model for cell in cells])
  runs = len({cell.run for cell in cells}) > 1
  out = []
  for (task, model), group in itertools.groupby(cells, key=lambda cell: cell.group):
    out += [f"{task_label(task)} | model {models[model]}", "", *_block(list(group), runs), ""]
  out += [
    "acc, gain: +- one standard error, clustered by context; gain: over in-context on the same"
    " questions;",
    "p: sign-flip test over contexts, not corrected for the number of cells.",
    "FLOPs: model FLOPs of a question that is charged its whole prefill and adaptation; extra:"
    " of these, after",
    "the prefill; given: what it could spend there; shared: FLOPs with prefill and adaptation"
    " shared by the questions.",
    "thought: thinking tokens per sample, of the budget. seconds: per context, all its questions,"
    " without compilation.",
  ]
  if any(cell.compiling for cell in cells):
    out.append("* includes compilation: no context ran without it.")
  if any(cell.failures or cell.fallbacks for cell in cells):
    out.append(
      "failed: examples that raised an error, counted wrong; base: answered with the base"
      " weights, the adaptation was not finite."
    )
  return "\n".join(out)


def _block(cells: list[Cell], runs: bool) -> list[str]:
  extra = [
    name
    for name in dict.fromkeys(n for c in cells for n in (*c.metrics, *c.corpus))
    if name != "acc"
  ]
  trouble = any(cell.failures or cell.fallbacks for cell in cells)
  head = [
    *(["run"] if runs else []),
    "length",
    "strategy",
    "acc",
    *extra,
    "gain",
    "p",
    "FLOPs",
    "extra",
    "given",
    "shared",
    "thought",
    "seconds",
    *(["failed", "base"] if trouble else []),
  ]
  lines = [head]
  for cell in cells:
    gain = cell.gain
    lines.append(
      [
        *([_cut(cell.run, 20)] if runs else []),
        str(cell.length),
        _cut(strategy_label(cell.strategy), _WIDEST_NAME),
        plus_minus(cell.accuracy),
        *(_other(cell, name) for name in extra),
        plus_minus(gain.gain, sign="+") if gain else "",
        p_text(gain.p_value) if gain else "",
        scientific(cell.flops),
        scientific(extra_flops(cell)),
        scientific(cell.budget.flops),
        scientific(cell.amortised_flops),
        thought(cell),
        _seconds(cell),
        *([str(cell.failures), str(cell.fallbacks)] if trouble else []),
      ]
    )
  left = ("run", "strategy")
  widths = [max(map(len, column)) for column in zip(*lines)]
  at = head.index("length")
  out = []
  for i, line in enumerate(lines):
    if i and line[at] != lines[i - 1][at]:
      out.append("")
    out.append(
      "  ".join(
        text.ljust(width) if name in left else text.rjust(width)
        for name, text, width in zip(head, line, widths)
      ).rstrip()
    )
  return out


def extra_flops(cell: Cell) -> float:
  """FLOPs used after the prefill of the context."""
  return cell.flops - cell.phase_flops.get("prefill", 0.0)


def thought(cell: Cell) -> str:
  """'12 of 1214': mean thinking tokens used per sample, and given; empty without thinking."""
  used = cell.thinking_tokens
  if not used or math.isnan(used):
    return ""
  samples = f" x{cell.budget.samples:.0f}" if cell.budget.samples > 1 else ""
  return f"{used:.0f} of {cell.budget.thinking_tokens:.0f}{samples}"


def _seconds(cell: Cell) -> str:
  return f"{cell.total_seconds:.2f}" + ("*" if cell.compiling else "") if cell.seconds else ""


def _other(cell: Cell, name: str) -> str:
  estimate = cell.metrics.get(name) or cell.corpus.get(name)
  return f"{estimate.mean:.3f}" if estimate else ""


def _cut(text: str, width: int) -> str:
  return text if len(text) <= width else text[: width - 2] + ".."
