"""How far a run is: a bar on a terminal, and elsewhere one line per finished cell."""

import shutil
import time
from typing import TextIO

import tqdm

from tttjax.experiment.config import Plan
from tttjax.experiment.samples_file import Samples
from tttjax.experiment.work_units import Place, Unit
from tttjax.rows import Row, primary

_NARROW = 72  # columns; a terminal with fewer gets no bar


class Progress:
  """Reports to `stream`.

  Call begin for every context, start and finish around every unit of work, and close at the end.
  """

  def __init__(self, plan: Plan, samples: Samples, stream: TextIO):
    self._plan, self._samples, self._stream = plan, samples, stream
    # A context's work grows with its length; what a unit of it takes is measured by strategy.
    self._left: dict[str, float] = {
      strategy: len(plan.models)
      * len(plan.config.seeds)
      * sum(plan.number(task, n) * n for task in plan.tasks for n in plan.config.lengths)
      for strategy in plan.strategies
    }
    self._measured: dict[str, tuple[float, float]] = {}  # seconds, work
    self._programs: set[tuple] = set()  # that ran before: what is new is compiled first
    self._began = 0.0
    # A postfix brings its own comma.
    form = "{desc} {percentage:3.0f}%{postfix}" + (" |{bar}|" if _columns() >= _NARROW else "")
    self._bar = tqdm.tqdm(
      total=sum(self._left.values()),
      file=stream,
      disable=not stream.isatty(),
      dynamic_ncols=True,
      bar_format=form,
    )
    self._place: tuple[str, Place] | None = None

  def begin(self, model: str, place: Place, missing: list[str]) -> None:
    """The next context: strategies that are not missing have answered it before."""
    last, self._place = self._place, (model, place)
    if last and _cell(*last) != _cell(model, place):
      self._print_cell(*last)
    for strategy in self._plan.strategies:
      if strategy not in missing:
        self._done(strategy, place)

  def start(self, unit: Unit, strategy: str) -> None:
    """Names the unit that is under way, and says whether programs are compiled for it first."""
    program = strategy, unit.case.capacity
    what = "" if program in self._programs else "compiling, "
    self._programs.add(program)
    place = unit.place
    text = f"{what}{strategy} @ {place.length}, {place.context + 1} of {place.task}"
    self._bar.set_description_str(text[: max(_columns() - 28, 12)], refresh=True)
    self._began = time.monotonic()
    self._compiles = bool(what)

  def finish(self, unit: Unit, strategy: str, rows: list[Row]) -> None:
    """Counts a unit."""
    if not (self._compiles or any(row["compiled"] for row in rows)):
      seconds, work = self._measured.get(strategy, (0.0, 0.0))
      spent = time.monotonic() - self._began
      self._measured[strategy] = seconds + spent, work + unit.place.length
    self._done(strategy, unit.place)

  def _done(self, strategy: str, place: Place) -> None:
    self._left[strategy] -= place.length
    self._bar.set_postfix_str(self._remaining(), refresh=False)
    self._bar.update(place.length)

  def _remaining(self) -> str:
    """Time left at the speed measured without compilation; '' until every strategy has one, and
    where nothing is left."""
    left = {s: work for s, work in self._left.items() if work > 0}
    if not left or not all(s in self._measured for s in left):
      return ""
    seconds = sum(work * self._measured[s][0] / self._measured[s][1] for s, work in left.items())
    return f"about {tqdm.tqdm.format_interval(seconds)} left"

  def _print_cell(self, model: str, place: Place) -> None:
    """Where there is no bar, what each strategy has answered of a finished cell."""
    if not self._bar.disable:
      return
    cells: dict[str, list[Row]] = {strategy: [] for strategy in self._plan.strategies}
    for row in self._samples.rows.values():
      if (row["model"], row["task"], row["length"]) == _cell(model, place):
        cells.get(row["strategy"], []).append(row)
    for strategy, rows in cells.items():
      failed = sum(row["error"] is not None for row in rows)
      print(
        f"{strategy} @ {place.length}, {place.task}: {_said(rows)}"
        + (f", {failed} failed" if failed else ""),
        file=self._stream,
        flush=True,
      )

  def close(self, finished: bool = False) -> None:
    """Leaves the terminal clean."""
    if finished and self._place:
      self._print_cell(*self._place)
    self._bar.close()


def _said(rows: list[Row]) -> str:
  """How well some predictions did."""
  scores = [primary(row) for row in rows if row["metrics"]]
  if not scores:
    return f"{len(rows)} answered, not scored"
  if set(scores) <= {0.0, 1.0}:
    return f"{sum(scores):.0f} of {len(scores)} right"
  return f"mean score {sum(scores) / len(scores):.3f} of {len(scores)}"


def _cell(model: str, place: Place) -> tuple[str, str, int]:
  return model, place.task, place.length


def _columns() -> int:
  return shutil.get_terminal_size().columns
