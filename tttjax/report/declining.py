"""Whether the reference gets worse as the context grows, and its statement in words."""

from collections.abc import Sequence
import dataclasses
import math

from tttjax.report.labels import (
  is_reference,
  metric_label,
  reference,
  strategy_label,
)
from tttjax.report.measures import primary_name
from tttjax.report.number_texts import p_text, plus_minus
from tttjax.report.pairing import paired
from tttjax.report.runs import Row, Run
from tttjax.report.statistics import ALPHA, PairedDifference
from tttjax.rows import primary


@dataclasses.dataclass(frozen=True)
class Decline:
  """How the reference's primary metric changes from the shortest to the longest context, paired.

  Attributes:
    task, model, run: whose.
    shortest, longest: the two lengths.
    metric: the primary one.
    short, long: its means over the shared questions.
    difference: longest minus shortest.
  """

  task: str
  model: str
  run: str
  shortest: int
  longest: int
  metric: str
  short: float
  long: float
  difference: PairedDifference


def decline(runs: Sequence[Run]) -> list[Decline]:
  """Of the reference, for each run, task and model with two lengths or more; equal ones once."""
  groups: dict[tuple, dict[int, list[Row]]] = {}
  for run in runs:
    for row in run.rows:
      if is_reference(row["family"], row["options"]):
        key = row["task"], row["model"], run.label
        groups.setdefault(key, {}).setdefault(row["length"], []).append(row)
  found: dict[tuple, Decline] = {}
  for (task, model, run), by_length in groups.items():
    shortest, longest = min(by_length), max(by_length)
    # The same question has one length in `paired`'s eyes.
    short = [{**row, "length": longest} for row in by_length[shortest]]
    difference = paired(by_length[longest], short, primary)
    if shortest == longest or difference is None:
      continue
    keys = lambda rows: {(r["seed"], r["context"], r["question"]) for r in rows}
    shared = keys(short) & keys(by_length[longest])
    mean = lambda rows: (
      sum(primary(r) for r in rows if (r["seed"], r["context"], r["question"]) in shared)
      / len(shared)
    )
    fall = Decline(
      task,
      model,
      run,
      shortest,
      longest,
      primary_name(by_length[longest]),
      mean(short),
      mean(by_length[longest]),
      difference,
    )
    found.setdefault((task, model, shortest, longest, fall.short, repr(difference)), fall)
  return list(found.values())


def decline_statement(fall: Decline, unit: str) -> str:
  """The decline in words; `unit` of the lengths."""
  gain, p = fall.difference.gain, fall.difference.p_value
  text = (
    f"{strategy_label(reference())} has {metric_label(fall.metric)} {fall.short:.3f} at"
    f" {fall.shortest:,} {unit} and {fall.long:.3f} on the same questions at {fall.longest:,}"
    f" (difference {plus_minus(gain, sign='+')}, p = {p_text(p)})"
  ).replace("= <", "< ")
  if math.isnan(p) or p > ALPHA:
    return f"{text}: these lengths show no decline beyond noise."
  return f"{text}: it {'falls' if gain.mean < 0 else 'rises'} with length."
