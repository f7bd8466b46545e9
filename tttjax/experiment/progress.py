"""How far a run is: a bar on a terminal, and elsewhere one line per finished cell."""

from collections.abc import Sequence
import shutil
from typing import TextIO

import tqdm

from tttjax.experiment.config import Plan
from tttjax.experiment.samples import Samples
from tttjax.experiment.work_units import Place
from tttjax.rows import Row, primary

_NARROW = 72  # columns; a terminal with fewer gets no bar


class Progress:
  """Reports to `stream`.

  Call begin for every context, start and finish around every unit of work, and close at the end.
  """

  def __init__(self, plan: Plan, samples: Samples, stream: TextIO, at_once: int):
    """Of a run that works on so many units `at_once`."""
    self._plan, self._samples, self._stream, self._at_once = plan, samples, stream, at_once
    # A context's work grows with its length; what a unit of it takes is measured by strategy.
    self._left: dict[str, float] = {
      strategy: len(plan.models)
      * len(plan.config.seeds)
      * sum(plan.number(task, n) * n for task in plan.tasks for n in plan.config.lengths)
      for strategy in plan.strategies
    }
    self._measured: dict[str, tuple[float, float]] = {}  # seconds, work
    self._finished: dict[tuple[str, str, int], int] = {}  # units, by cell
    # A postfix brings its own comma.
    form = "{desc} {percentage:3.0f}%{postfix}" + (" |{bar}|" if _columns() >= _NARROW else "")
    self._bar = tqdm.tqdm(
      total=sum(self._left.values()),
      file=stream,
      disable=not stream.isatty(),
      dynamic_ncols=True,
      bar_format=form,
    )

  def begin(self, model: str, place: Place, missing: Sequence[str]) -> None:
    """The next context: strategies that are not missing have answered it before."""
    for strategy in self._plan.strategies:
      if strategy not in missing:
        self._done(model, place, strategy)

  def start(self, place: Place, strategy: str, compiles: bool) -> None:
    """Names the unit that is under way, and says whether programs are compiled for it first."""
    what = "compiling, " if compiles else ""
    text = f"{what}{strategy} @ {place.length}, {place.context + 1} of {place.task}"
    self._bar.set_description_str(text[: max(_columns() - 28, 12)], refresh=True)

  def finish(self, model: str, place: Place, strategy: str, spent: float | None) -> None:
    """Counts a unit and what it took; None where something was compiled in that time."""
    if spent is not None:
      seconds, work = self._measured.get(strategy, (0.0, 0.0))
      self._measured[strategy] = seconds + spent, work + place.length
    self._done(model, place, strategy)

  def _done(self, model: str, place: Place, strategy: str) -> None:
    self._left[strategy] -= place.length
    self._bar.set_postfix_str(self._remaining(), refresh=False)
    self._bar.update(place.length)
    cell = model, place.task, place.length
    self._finished[cell] = self._finished.get(cell, 0) + 1
    contexts = len(self._plan.config.seeds) * self._plan.number(place.task, place.length)
    if self._finished[cell] == contexts * len(self._plan.strategies):
      self._print_cell(*cell)

  def _remaining(self) -> str:
    """Time left at the speed measured without compilation; '' until every strategy has one, and
    where nothing is left."""
    left = {s: work for s, work in self._left.items() if work > 0}
    if not left or not all(s in self._measured for s in left):
      return ""
    seconds = sum(work * self._measured[s][0] / self._measured[s][1] for s, work in left.items())
    return f"about {tqdm.tqdm.format_interval(seconds / self._at_once)} left"

  def _print_cell(self, model: str, task: str, length: int) -> None:
    """Where there is no bar, what each strategy has answered of a finished cell."""
    if not self._bar.disable:
      return
    cells: dict[str, list[Row]] = {strategy: [] for strategy in self._plan.strategies}
    for row in self._samples.rows.values():
      if (row["model"], row["task"], row["length"]) == (model, task, length):
        cells.get(row["strategy"], []).append(row)
    for strategy, rows in cells.items():
      failed = sum(row["error"] is not None for row in rows)
      print(
        f"{strategy} @ {length}, {task}: {_said(rows)}" + (f", {failed} failed" if failed else ""),
        file=self._stream,
        flush=True,
      )

  def close(self) -> None:
    """Leaves the terminal clean."""
    self._bar.close()


def _said(rows: list[Row]) -> str:
  """How well some predictions did."""
  scores = [primary(row) for row in rows if row["metrics"]]
  if not scores:
    return f"{len(rows)} answered, not scored"
  if set(scores) <= {0.0, 1.0}:
    return f"{sum(scores):.0f} of {len(scores)} right"
  return f"mean score {sum(scores) / len(scores):.3f} of {len(scores)}"


def _columns() -> int:
  return shutil.get_terminal_size().columns
