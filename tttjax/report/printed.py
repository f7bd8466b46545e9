"""The printed table: plain ASCII, one line per cell, a block per task and model."""

from collections.abc import Sequence
import itertools
import math
import textwrap

from tttjax.report.cell import Cell
from tttjax.report.labels import model_labels, reference, strategy_label, task_label
from tttjax.report.number_texts import p_text, plus_minus, scientific
from tttjax.report.statistics import Estimate
from tttjax.report.task_averages import Average, averages
from tttjax.tasks.metrics import headline_of, metric

# Longer names go on in the next line.
_WIDEST = {"strategy": 44, "run": 24}
_LEAST_CHANCE = 0.005


def table(cells: Sequence[Cell]) -> str:
  """Blocks of aligned columns, 140 or somewhat more wide, and what the columns mean."""
  models = model_labels([cell.model for cell in cells])
  runs = len({cell.run for cell in cells}) > 1
  out = []
  for (_, model), group in itertools.groupby(cells, key=lambda cell: cell.group):
    own = list(group)
    out += [f"{own[0].task_label} | model {models[model]}", "", *_block(own, runs), ""]
    for name in sliced_by(own):
      out += [f"{own[0].metric} by {name}", "", *_slices(own, name, runs), ""]
  for benchmark, group in itertools.groupby(averages(cells), key=lambda a: a.benchmark):
    out += [*_averages(benchmark, list(group), models, runs), ""]
  return "\n".join(out + _legend(cells))


def _averages(benchmark: str, own: list[Average], models: dict[str, str], runs: bool) -> list[str]:
  """A block of the averages over a benchmark's tasks."""
  head = f"{task_label(benchmark)}, mean of {own[0].tasks} tasks"
  return [
    f"{head}, each with the same weight; +- takes them for independent",
    "",
    *_aligned(
      {
        **({"run": [a.run for a in own]} if runs else {}),
        **({"model": [models[a.model] for a in own]} if len(models) > 1 else {}),
        "length": [str(a.length) for a in own],
        "strategy": [strategy_label(a.strategy) for a in own],
        "mean": [plus_minus(a.score) for a in own],
        "gain": [plus_minus(a.gain, sign="+") if a.gain else "" for a in own],
      }
    ),
  ]


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


def _share(value: float) -> str:
  """'0.04', or '' where it is 0 or not known."""
  return f"{value:.2f}" if value > 0 else ""


def shows_chance(cells: Sequence[Cell]) -> bool:
  """Whether guessing is right often enough to be worth a column."""
  return any(cell.chance >= _LEAST_CHANCE for cell in cells)


def other_metrics(cells: Sequence[Cell]) -> list[str]:
  """The metrics beside the primary one that say more than it does."""
  names = dict.fromkeys(n for cell in cells for n in (*cell.metrics, *cell.corpus))
  return [name for name in names if name != cells[0].metric and _says_more(cells, name)]


def _says_more(cells: Sequence[Cell], name: str) -> bool:
  own = metric(name)
  values = [(cell.metrics.get(name) or cell.corpus.get(name), cell) for cell in cells]
  if own.full:
    return any(value and value.mean < 1 for value, _ in values)
  if own.parts and not own.headline:  # the same number as its first part's
    return any(value and value.mean != cell.metrics[own.parts[0]].mean for value, cell in values)
  return True


def sliced_by(cells: Sequence[Cell]) -> list[str]:
  """The slices of which the cells have several values."""
  names = dict.fromkeys(name for cell in cells for name in cell.slices)
  return [n for n in names if len({v for cell in cells for v in cell.slices.get(n, ())}) > 1]


def _block(cells: list[Cell], runs: bool) -> list[str]:
  first, extra = cells[0].metric, other_metrics(cells)
  columns = {
    **_names(cells, runs),
    first: [plus_minus(c.score) for c in cells],
    **({"chance": [_share(c.chance) for c in cells]} if shows_chance(cells) else {}),
    **{name: [_other(c, name) for c in cells] for name in extra},
    **_headline_gains(cells, extra),
    "gain": [plus_minus(c.gain.gain, sign="+") if c.gain else "" for c in cells],
    "p": [p_text(c.gain.p_value) if c.gain else "" for c in cells],
    "FLOPs": [scientific(c.flops) for c in cells],
    "extra": [scientific(extra_flops(c)) for c in cells],
    "given": [scientific(c.budget.flops) for c in cells],
    "shared": [scientific(c.amortised_flops) for c in cells],
    "thought": [thought(c) for c in cells],
    "seconds": [f"{c.total_seconds:.2f}" if c.seconds else "" for c in cells],
    **_where_any("kept", [f"{c.kept:.2f}" if c.kept < 1 else "" for c in cells]),
    **_where_any("cut", [_share(c.truncated) for c in cells]),
    **_where_any("unclosed", [_share(c.unclosed) for c in cells]),
    **_where_any("failed", [str(c.failures or "") for c in cells]),
    **_where_any("base", [str(c.fallbacks or "") for c in cells]),
  }
  return _aligned(columns)


def _headline_gains(cells: list[Cell], extra: list[str]) -> dict[str, list[str]]:
  """The gain of the combination that stands for the task, where there is one."""
  name = headline_of(extra)
  gains = [cell.corpus_gain.get(name) for cell in cells]
  return {f"{name} gain": [_part(gain and gain.gain, "+") for gain in gains]} if any(gains) else {}


def _slices(cells: list[Cell], name: str, runs: bool) -> list[str]:
  values = sorted({value for cell in cells for value in cell.slices.get(name, ())})
  columns = _names(cells, runs)
  for value in values:
    columns[value] = [_part(cell.slices.get(name, {}).get(value)) for cell in cells]
    gains = [cell.slice_gains.get(name, {}).get(value) for cell in cells]
    columns |= {f"{value}: gain": [_part(gain and gain.gain, "+") for gain in gains]}
  return _aligned(columns)


def _part(estimate: Estimate | None, sign: str = "") -> str:
  return plus_minus(estimate, sign=sign) if estimate else ""


def _names(cells: list[Cell], runs: bool) -> dict[str, list[str]]:
  return {
    **({"run": [c.run for c in cells]} if runs else {}),
    "length": [str(c.length) for c in cells],
    "strategy": [c.label for c in cells],
  }


def _where_any(name: str, texts: list[str]) -> dict[str, list[str]]:
  return {name: texts} if any(texts) else {}


def _other(cell: Cell, name: str) -> str:
  estimate = cell.metrics.get(name) or cell.corpus.get(name)
  if estimate is None:
    return ""
  return "n/a" if math.isnan(estimate.mean) else f"{estimate.mean:.3f}"


def _aligned(columns: dict[str, list[str]]) -> list[str]:
  """Lines of the columns, those of each length apart."""
  folded = [
    [
      textwrap.wrap(text, _WIDEST[name], subsequent_indent="  ") or [""]
      if name in _WIDEST
      else [text]
      for text in [name, *texts]
    ]
    for name, texts in columns.items()
  ]
  widths = [max(len(part) for parts in column for part in parts) for column in folded]
  out, lengths = [], ["length", *columns["length"]]
  for i, row in enumerate(zip(*folded)):
    if i and lengths[i] != lengths[i - 1]:
      out.append("")
    for parts in itertools.zip_longest(*row, fillvalue=""):
      line = (
        part.ljust(width) if name in _WIDEST else part.rjust(width)
        for name, part, width in zip(columns, parts, widths)
      )
      out.append("  ".join(line).rstrip())
  return out


def _legend(cells: Sequence[Cell]) -> list[str]:
  metrics = ", ".join(dict.fromkeys(cell.metric for cell in cells))
  lines = [
    f"{metrics}, gain: +- one standard error, clustered by context; gain: over"
    f" {strategy_label(reference())} on the same questions; p: sign-flip test over contexts, not"
    " corrected for the number of cells.",
    "FLOPs: model FLOPs of a question that is charged its whole prefill and adaptation; extra: of"
    " these, after the prefill; given: what it could spend there; shared: FLOPs with prefill and"
    " adaptation shared by the questions.",
    "thought: thinking tokens per sample, of the budget. seconds: per context, all its questions,"
    " without compilation.",
  ]
  if shows_chance(cells):
    lines.append("chance: what guessing would score.")
  if not all(cell.seconds for cell in cells):
    lines.append(f"No seconds: {why_no_seconds(cells)}.")
  if any(cell.kept < 1 for cell in cells):
    lines.append("kept: share of the documents' tokens that was left where they were cut.")
  if any(cell.truncated > 0 for cell in cells):
    lines.append("cut: share of samples that ended at the longest output, not by themselves.")
  if any(cell.unclosed > 0 for cell in cells):
    lines.append("unclosed: share of thoughts closed by their budget, or not at all.")
  if any(cell.failures for cell in cells):
    lines.append("failed: examples that raised an error, counted wrong.")
  if any(cell.fallbacks for cell in cells):
    lines.append("base: answered with the base weights, the adaptation was not finite.")
  return [part for line in lines for part in textwrap.wrap(line, 120)]


def why_no_seconds(cells: Sequence[Cell]) -> str:
  """Why some cells have none, in words."""
  without = [cell for cell in cells if not cell.seconds]
  reasons = []
  if any(cell.compiling for cell in without):
    reasons.append("every context compiled something")
  if any(not cell.compiling and cell.failures < cell.score.n for cell in without):
    reasons.append("the programs were those of another length")
  if any(cell.failures == cell.score.n for cell in without):
    reasons.append("every example failed")
  return ", or ".join(reasons)
