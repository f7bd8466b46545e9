"""Which strategies are compared over all lengths, how sure that is, and its statement in words."""

from collections.abc import Sequence
import dataclasses
import math

from tttjax.report.labels import (
  BASELINE,
  CONTROL,
  count,
  family_of,
  options_of,
  p_text,
  plus_minus,
  strategy_label,
)
from tttjax.report.runs import Row, Run
from tttjax.report.statistics import PairedDifference, holm
from tttjax.report.summary import Baselines, accuracy_of, paired

_ALPHA = 0.05


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One strategy against another on the same questions, all lengths together.

  A context is the same needle in haystacks of several lengths, so one cluster holds all of them.

  Attributes:
    run, model, task: of the treatment.
    treatment, baseline: the strategies.
    lengths: those at which both have answered.
    difference: accuracy of the treatment minus the baseline's.
    holm_p: its p-value, corrected for all comparisons of the report.
  """

  run: str
  model: str
  task: str
  treatment: str
  baseline: str
  lengths: tuple[int, ...]
  difference: PairedDifference
  holm_p: float = math.nan


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
  """Every strategy against in-context; qTTT against its control and against thinking.

  The control is adapted with the same options. Against thinking it is qTTT without options, the
  paper's claim at matched FLOPs. What several runs found alike (a sweep repeats its baselines) is
  one comparison.
  """
  cells: dict[tuple, dict[int, list[Row]]] = {}
  for run in runs:
    for row in run.rows:
      key = row["task"], row["model"], run.label, row["strategy"]
      cells.setdefault(key, {}).setdefault(row["length"], []).append(row)
  baselines = Baselines(runs)
  found, seen = [], set()
  for (task, model, run, strategy), by_length in cells.items():
    if strategy == BASELINE:
      continue
    pairs = {BASELINE: [r for rows in by_length.values() for r in baselines.of(run, rows)]}
    if family_of(strategy) == "qttt":
      against = [strategy.replace("qttt", CONTROL, 1)]
      if not options_of(strategy):
        against.append("thinking")
      for other in against:
        by = cells.get((task, model, run, other), {})
        pairs[other] = [row for rows in by.values() for row in rows]
    rows = [row for rows in by_length.values() for row in rows]
    for other, base in pairs.items():
      if (difference := paired(rows, base, accuracy_of)) is not None:
        shared = tuple(sorted({row["length"] for row in base} & by_length.keys()))
        content = model, task, strategy, other, shared, repr(difference)
        if content not in seen:
          found.append(Comparison(run, model, task, strategy, other, shared, difference))
        seen.add(content)
  corrected = holm([c.difference.p_value for c in found])
  return [dataclasses.replace(c, holm_p=p) for c, p in zip(found, corrected)]


def statement(comparison: Comparison, number: int) -> str:
  """The comparison in words.

  Args:
    comparison: which.
    number: of comparisons that the p-value was corrected for.
  """
  difference = comparison.difference
  gain, p = difference.gain, difference.p_value
  names = strategy_label(comparison.treatment), strategy_label(comparison.baseline)
  head = f"{names[0]} differs from {names[1]} by {plus_minus(gain, sign='+')}"
  if math.isnan(gain.stderr):
    return f"{head} on a single context: no error can be given, and nothing follows from it."
  corrected = f", {p_text(comparison.holm_p)} after correction" if number > 1 else ""
  head += f" (p = {p_text(p)}{corrected}; {count(gain.clusters, 'context')})".replace("= <", "< ")
  if difference.smallest_p > _ALPHA:
    return f"{head}: too few contexts to tell; p cannot be below {difference.smallest_p:.2g}."
  direction = "higher" if gain.mean > 0 else "lower"
  if comparison.holm_p <= _ALPHA:
    return f"{head}: {direction} by more than chance explains."
  if p <= _ALPHA and number * difference.smallest_p > _ALPHA:
    return (
      f"{head}: {direction}; so few contexts can hardly pass the correction for {number}"
      " comparisons, so treat it as a hint."
    )
  if p <= _ALPHA:
    return (
      f"{head}: {direction}, but not beyond doubt once all {number} comparisons are corrected"
      " for; treat it as a hint."
    )
  low, high = gain.mean - 2 * gain.stderr, gain.mean + 2 * gain.stderr
  if low > 0 or high < 0:  # the test of few contexts is the stricter of the two
    return f"{head}: {direction}, but chance is not excluded; treat it as a hint."
  return (
    f"{head}: not distinguishable from noise; differences from {low:+.3f} to {high:+.3f}"
    " (two standard errors) agree with these data."
  )


@dataclasses.dataclass(frozen=True)
class Decline:
  """How in-context's accuracy changes from the shortest to the longest context, paired.

  Attributes:
    task, model, run: whose.
    shortest, longest: the two lengths.
    short, long: the accuracies of the shared questions.
    difference: longest minus shortest.
  """

  task: str
  model: str
  run: str
  shortest: int
  longest: int
  short: float
  long: float
  difference: PairedDifference


def decline(runs: Sequence[Run]) -> list[Decline]:
  """Of in-context, for each run, task and model with two lengths or more; equal ones once."""
  groups: dict[tuple, dict[int, list[Row]]] = {}
  for run in runs:
    for row in run.rows:
      if row["strategy"] == BASELINE:
        key = row["task"], row["model"], run.label
        groups.setdefault(key, {}).setdefault(row["length"], []).append(row)
  found: dict[tuple, Decline] = {}
  for (task, model, run), by_length in groups.items():
    shortest, longest = min(by_length), max(by_length)
    # The same question has one length in `paired`'s eyes.
    short = [{**row, "length": longest} for row in by_length[shortest]]
    difference = paired(by_length[longest], short, accuracy_of)
    if shortest == longest or difference is None:
      continue
    keys = lambda rows: {(r["seed"], r["context"], r["question"]) for r in rows}
    shared = keys(short) & keys(by_length[longest])
    mean = lambda rows: (
      sum(r["acc"] for r in rows if (r["seed"], r["context"], r["question"]) in shared)
      / len(shared)
    )
    fall = Decline(
      task, model, run, shortest, longest, mean(short), mean(by_length[longest]), difference
    )
    found.setdefault((task, model, shortest, longest, fall.short, repr(difference)), fall)
  return list(found.values())


def decline_statement(fall: Decline, unit: str) -> str:
  """The decline in words; `unit` of the lengths."""
  gain, p = fall.difference.gain, fall.difference.p_value
  text = (
    f"in-context is right on {fall.short:.3f} of the questions at {fall.shortest:,} {unit}"
    f" and on {fall.long:.3f} of the same questions at {fall.longest:,}"
    f" (difference {plus_minus(gain, sign='+')}, p = {p_text(p)})"
  ).replace("= <", "< ")
  if math.isnan(p) or p > _ALPHA:
    return f"{text}: these lengths show no decline beyond noise."
  return f"{text}: it {'falls' if gain.mean < 0 else 'rises'} with length."
