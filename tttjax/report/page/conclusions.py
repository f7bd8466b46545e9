"""The report's findings in words, generated from the numbers."""

from collections.abc import Sequence
import dataclasses
import math

from tttjax import spec
from tttjax.report.cell import Cell
from tttjax.report.comparing import Comparison, statement
from tttjax.report.declining import Decline, decline_statement
from tttjax.report.labels import metric_label, reference, role_of, strategy_label, task_label
from tttjax.report.number_texts import count, p_text, plus_minus
from tttjax.report.page.markup import minus, signed
from tttjax.report.statistics import ALPHA, PairedDifference
from tttjax.strategies import Role

_MOST_SENTENCES = 10  # of a task and model; more stand in the table only


@dataclasses.dataclass(frozen=True)
class Finding:
  """What is said of one task and model; plain text.

  Attributes:
    group: (task, model).
    name: of both.
    sentences: the result, two or three.
    details: every comparison that can be decided, and the attention mass.
  """

  group: tuple[str, str]
  name: str
  sentences: list[str]
  details: list[str]


def findings(
  cells: Sequence[Cell],
  compared: Sequence[Comparison],
  declines: Sequence[Decline],
  models: dict[str, str],
  units: dict[str, str],
) -> list[Finding]:
  """One per task and model, in the order of the cells."""
  runs = len({cell.run for cell in cells}) > 1
  tested = sum(not math.isnan(c.holm_p) for c in compared)
  found = []
  for group in dict.fromkeys(cell.group for cell in cells):
    task, model = group
    own = [c for c in compared if (c.task, c.model) == group]
    falls = [d for d in declines if (d.task, d.model) == group]
    lengths = tuple(sorted({cell.length for cell in cells if cell.group == group}))
    sentences = [
      *_best(own, lengths, units[task], runs),
      *_beside_controls(own, runs),
      *(_fall(d, units[task], len(falls) > 1) for d in falls[:1]),
    ]
    if not own:
      others = {c.strategy for c in cells if c.group == group and not c.is_reference}
      why = f"{strategy_label(reference())} did not run" if others else "no other strategy ran"
      sentences.append(f"There is nothing to compare: {why}.")
    said = sorted(own, key=lambda c: (bool(c.options), not c.with_reference))
    details = [
      *(_named(decline_statement(d, units[task]), d.run, runs) for d in falls),
      *(_named(statement(c, tested), c.run, runs) for c in said if _decidable(c.difference)),
    ][:_MOST_SENTENCES]
    details += _masses([cell for cell in cells if cell.group == group], units[task])
    name = f"{task_label(task)}, {models[model]}"
    found.append(Finding(group, name, sentences, [signed(text) for text in details]))
  return found


def caveat(compared: Sequence[Comparison]) -> str:
  """Whether there are enough contexts to tell, said once for the whole report; '' if so."""
  doubtful = [c for c in compared if not _decidable(c.difference)]
  if not doubtful:
    return ""
  contexts = max(c.difference.gain.clusters for c in doubtful)
  at_most = count(contexts, "context")
  if len(doubtful) == len(compared):
    return (
      f"Too few contexts to tell: with {at_most} no difference, however large, can be told from"
      " chance. These numbers are no evidence for or against any strategy."
    )
  return (
    f"{len(doubtful)} of the {count(len(compared), 'comparison')} have too few contexts to tell"
    f" ({at_most} at most)."
  )


def _decidable(difference: PairedDifference) -> bool:
  return not math.isnan(difference.gain.stderr) and difference.smallest_p <= ALPHA


def _best(own: Sequence[Comparison], lengths, unit: str, runs: bool) -> list[str]:
  """Which strategy is best over all lengths."""
  own = [c for c in own if c.with_reference]
  if not own:
    return []
  best = max(own, key=_gain)
  name, base = _name(best, runs), strategy_label(best.baseline)
  where = "over all lengths" if best.lengths == lengths else f"at {_range(best.lengths)} {unit}"
  metric, amount = metric_label(best.metric), _amount(best)
  if len(own) == 1:
    head = f"{name} changes the {metric} by {amount} {where}, compared with {base}"
    return [f"{head}{_doubt(best)}."]
  if _gain(best) <= 0:
    return [
      f"No strategy is better than {base}: the best of them, {name}, changes the {metric} by"
      f" {amount} {where}."
    ]
  if best.holm_p <= ALPHA:
    return [f"{name} is best {where}: its {metric} is above that of {base} by {amount}."]
  return [f"{name} has the largest gain in {metric} over {base} {where}, {amount}{_doubt(best)}."]


def _beside_controls(own: Sequence[Comparison], runs: bool) -> list[str]:
  """The best method against its controls; those without options count before their variants."""
  every = [c for c in own if c.with_reference]
  methods = [c for c in every if role_of(c.family) is Role.METHOD]
  methods = [c for c in methods if not c.options] or methods
  if not methods:
    return []
  best = max(methods, key=_gain)
  said = [] if best is max(every, key=_gain) else [best]  # or else the first sentence is about it
  said += [
    c
    for c in own
    if (c.treatment, c.run) == (best.treatment, best.run)
    and role_of(spec.taken_apart(c.baseline)[0]) is Role.CONTROL
  ]
  parts = [f"from {strategy_label(c.baseline)} by {_amount(c)}{_doubt(c)}" for c in said]
  return [f"{_name(best, runs)} differs {', and '.join(parts)}."] if parts else []


def _gain(comparison: Comparison) -> float:
  return comparison.difference.gain.mean


def _fall(fall: Decline, unit: str, runs: bool) -> str:
  """How the reference changes with length."""
  difference, base = fall.difference, strategy_label(reference())
  head = _named(f"the {metric_label(fall.metric)} of {base}", fall.run, runs)
  ends = (
    f"from {fall.short:.3f} at {fall.shortest:,} {unit} to {fall.long:.3f} on the same questions"
    f" at {fall.longest:,}"
  )
  if not _decidable(difference):
    return f"{head} goes {ends}."
  p = _p(difference.p_value)
  if difference.p_value > ALPHA:
    return f"{head} goes {ends}: no change beyond noise ({p})."
  return f"{head} {'falls' if difference.gain.mean < 0 else 'rises'} {ends} ({p})."


def _amount(comparison: Comparison) -> str:
  """'+0.083 (95% interval +0.051 to +0.115; corrected p < 0.001)'."""
  gain = comparison.difference.gain
  mean, low, high = (minus(f"{value:+.3f}") for value in (gain.mean, *gain.interval()))
  if math.isnan(gain.stderr):
    return f"{mean} (of a single context, so without an error)"
  return f"{mean} (95% interval {low} to {high}; corrected {_p(comparison.holm_p)})"


def _doubt(comparison: Comparison) -> str:
  """What a difference that is not significant means; contexts too few are said elsewhere."""
  if not _decidable(comparison.difference) or comparison.holm_p <= ALPHA:
    return ""
  if comparison.difference.p_value <= ALPHA:
    return ", a hint at most"
  return ", which may be chance"


def _p(value: float) -> str:
  return f"p = {p_text(value)}".replace("= <", "< ")


def _range(lengths: Sequence[int]) -> str:
  return f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"


def _name(comparison: Comparison, runs: bool) -> str:
  run = f" [{comparison.run}]" if runs and comparison.run else ""
  label = strategy_label(comparison.treatment)
  return (label if label.startswith("qTTT") else label[:1].upper() + label[1:]) + run


def _named(words: str, run: str, runs: bool) -> str:
  words = words if words.startswith("qTTT") else words[:1].upper() + words[1:]
  return f"{f'[{run}] ' if runs and run else ''}{words}"


def _masses(cells: Sequence[Cell], unit: str) -> list[str]:
  """Attention mass of the reference at both ends, and what plain methods change at the longest."""
  base = [c for c in cells if c.is_reference and "mass" in c.mechanism]
  if not base:
    return []
  run = base[0].run
  base = [c for c in base if c.run == run]
  short, long = base[0], base[-1]
  said = []
  if short.length != long.length:
    said.append(
      f"Attention mass on the places with the answer, {short.label}:"
      f" {plus_minus(short.mechanism['mass'])} at {short.length:,} {unit},"
      f" {plus_minus(long.mechanism['mass'])} at {long.length:,}."
    )
  for cell in cells:
    gain = cell.mechanism_gain.get("mass")
    plain = role_of(cell.family) is Role.METHOD and not cell.options
    if plain and cell.length == long.length and cell.run == run and gain:
      said.append(
        f"At {long.length:,} {unit} {cell.label} changes that mass by"
        f" {plus_minus(gain.gain, sign='+', places=4)} ({_p(gain.p_value)}, not corrected)."
      )
  return said


def tuning(cells: Sequence[Cell]) -> str:
  """A warning where several settings of a method ran on the same questions; '' elsewhere."""
  settings = {
    (c.family, c.budget.steps, c.budget.span, c.budget.learning_rate)
    for c in cells
    if role_of(c.family) is Role.METHOD
  }
  families = [family for family, *_ in settings]
  tuned = [family for family in dict.fromkeys(families) if families.count(family) > 1]
  if not tuned:
    return ""
  names = " and ".join(map(strategy_label, sorted(tuned)))
  return (
    f"Several settings of {names} ran on the same questions: the best of them is best partly by"
    " luck, so confirm it with another seed."
  )
