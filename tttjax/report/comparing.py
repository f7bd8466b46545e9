"""Which strategies are compared over all lengths, how sure that is, and its statement in words."""

from collections.abc import Sequence
import dataclasses
import math

from tttjax.report.labels import (
  compared_with,
  is_reference,
  reference,
  strategy_label,
)
from tttjax.report.measures import primary_name
from tttjax.report.number_texts import count, p_text, plus_minus
from tttjax.report.pairing import Baselines, paired
from tttjax.report.runs import Row, Run
from tttjax.report.statistics import ALPHA, PairedDifference, holm
from tttjax.rows import primary


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One strategy against another on the same questions, all lengths together.

  A context is the same needle in haystacks of several lengths, so one cluster holds all of them.

  Attributes:
    run, model, task: of the treatment.
    treatment, baseline: the strategies.
    family, options: of the treatment.
    metric: the primary one, which is compared.
    lengths: those at which both have answered.
    difference: primary metric of the treatment minus the baseline's.
    holm_p: its p-value, corrected for all comparisons of the report.
  """

  run: str
  model: str
  task: str
  treatment: str
  baseline: str
  family: str
  options: dict[str, str]
  metric: str
  lengths: tuple[int, ...]
  difference: PairedDifference
  holm_p: float = math.nan

  @property
  def with_reference(self) -> bool:
    """Whether the baseline is the one of all strategies, not the treatment's own."""
    return self.baseline == reference()


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
  """Every strategy against the reference, and against those that it names, of the same options.

  What several runs found alike (a sweep repeats its baselines) is one comparison.
  """
  groups: dict[tuple[str, str, str], dict[str, list[Row]]] = {}
  for run in runs:
    for row in run.rows:
      group = groups.setdefault((row["task"], row["model"], run.label), {})
      group.setdefault(row["strategy"], []).append(row)
  baselines = Baselines(runs)
  found, seen = [], set()
  for (task, model, run), strategies in groups.items():
    for strategy, rows in strategies.items():
      first = rows[0]
      for other, base in _against(rows, run, strategies, baselines).items():
        if (difference := paired(rows, base, primary)) is None:
          continue
        lengths = {row["length"] for row in base} & {row["length"] for row in rows}
        content = model, task, strategy, other, frozenset(lengths), repr(difference)
        if content not in seen:
          found.append(
            Comparison(
              run,
              model,
              task,
              strategy,
              other,
              first["family"],
              first["options"],
              primary_name(rows),
              tuple(sorted(lengths)),
              difference,
            )
          )
        seen.add(content)
  corrected = holm([c.difference.p_value for c in found])
  return [dataclasses.replace(c, holm_p=p) for c, p in zip(found, corrected)]


def _against(
  rows: list[Row], run: str, strategies: dict[str, list[Row]], baselines: Baselines
) -> dict[str, list[Row]]:
  """The rows that a strategy's rows are compared with, by strategy."""
  family, options = rows[0]["family"], rows[0]["options"]
  if is_reference(family, options):
    return {}
  by_length: dict[int, list[Row]] = {}
  for row in rows:
    by_length.setdefault(row["length"], []).append(row)
  found = {reference(): [row for own in by_length.values() for row in baselines.of(run, own)]}
  for other in compared_with(family):
    for strategy, own in strategies.items():
      if (own[0]["family"], own[0]["options"]) == (other, options):
        found[strategy] = own
  return found


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
  if difference.smallest_p > ALPHA:
    return f"{head}: too few contexts to tell; p cannot be below {difference.smallest_p:.2g}."
  direction = "higher" if gain.mean > 0 else "lower"
  if comparison.holm_p <= ALPHA:
    return f"{head}: {direction} by more than chance explains."
  if p <= ALPHA and number * difference.smallest_p > ALPHA:
    return (
      f"{head}: {direction}; so few contexts can hardly pass the correction for {number}"
      " comparisons, so treat it as a hint."
    )
  if p <= ALPHA:
    return (
      f"{head}: {direction}, but not beyond doubt once all {number} comparisons are corrected"
      " for; treat it as a hint."
    )
  low, high = gain.interval()
  if low > 0 or high < 0:  # the test of few contexts is the stricter of the two
    return f"{head}: {direction}, but chance is not excluded; treat it as a hint."
  return (
    f"{head}: not distinguishable from noise; differences from {low:+.3f} to {high:+.3f}"
    " (95% interval) agree with these data."
  )
