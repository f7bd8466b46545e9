"""Failed examples and fallbacks, by place and message."""

import collections
from collections.abc import Sequence

from tttjax.report.labels import strategy_label, task_label
from tttjax.report.page.markup import Column, Table, Value, number
from tttjax.report.runs import Run

_MAX_MESSAGES = 40
_MAX_CHARACTERS = 400
_KINDS = {"error": "failed, counted wrong", "fallback": "answered with the unchanged weights"}


def messages(runs: Sequence[Run], models: dict[str, str]) -> tuple[Table, int] | None:
  """The most frequent messages, and how many more there are; None where nothing failed."""
  groups: collections.Counter = collections.Counter()
  for run in runs:
    for row in run.rows:
      for kind in _KINDS:
        if row[kind]:
          place = row["task"], row["model"], row["length"], row["strategy"], run.label
          groups[kind, row[kind], place] += 1
  if not groups:
    return None
  rows = [
    [
      Value(_KINDS[kind]),
      number(count),
      number(length),
      Value(strategy_label(strategy)),
      Value(", ".join(filter(None, (task_label(task), models[model], run)))),
      Value(message[:_MAX_CHARACTERS], code=True),
    ]
    for (kind, message, (task, model, length, strategy, run)), count in groups.most_common(
      _MAX_MESSAGES
    )
  ]
  columns = [
    Column("what", text=True),
    Column("questions", "how many"),
    Column("length", "of the context"),
    Column("strategy", text=True, main=True),
    Column("where", "task, model and run", text=True),
    Column("message", text=True),
  ]
  return Table(columns, rows), len(groups) - len(rows)
