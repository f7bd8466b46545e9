"""How far a run is: a bar on a terminal, and elsewhere one line per finished cell."""

import time
from typing import TextIO

import tqdm

from tttjax.experiment.work import Item, ModelWork
from tttjax.rows import Row


class Progress:
  """Reports to `stream`; call start and finish around every unit of work, and close at the end."""

  def __init__(self, work: dict[str, ModelWork], strategies: int, stream: TextIO):
    self._stream = stream
    items = [item for model in work.values() for item in model.items]
    # Work grows with the length, so the remaining time is estimated from tokens.
    total = strategies * sum(item.case.num_tokens for item in items)
    self._contexts: dict[tuple, int] = {}
    for item in items:
      self._contexts[_cell(item)] = self._contexts.get(_cell(item), 0) + 1
    self._bar = tqdm.tqdm(
      total=total,
      file=stream,
      disable=not stream.isatty(),
      dynamic_ncols=True,
      bar_format="{desc:<44.44} {percentage:3.0f}%|{bar}| {elapsed} spent, {remaining}"
      " left{postfix}",
    )
    self._cells: dict[tuple, list[list[Row]]] = {}
    self._made, self._begin = 0, time.monotonic()

  def start(self, item: Item, strategy: str) -> None:
    """Names the unit that is under way."""
    self._bar.set_description_str(
      f"{strategy} @ {item.length}, {item.context + 1} of {item.task}", refresh=True
    )

  def finish(self, item: Item, strategy: str, rows: list[Row], made: int) -> None:
    """Counts a unit: its rows, of which `made` are new."""
    self._made += made
    rate = self._made / max(time.monotonic() - self._begin, 1e-9)
    self._bar.set_postfix_str(f"{rate:.1f} examples/s", refresh=False)
    self._bar.update(item.case.num_tokens)
    cell = (*_cell(item), strategy)
    units = self._cells.setdefault(cell, [])
    units.append(rows)
    if not self._bar.disable or len(units) < self._contexts[_cell(item)]:
      return
    every = [row for unit in self._cells.pop(cell) for row in unit]
    failed = sum(row["error"] is not None for row in every)
    print(
      f"{strategy} @ {item.length}, {item.task}: {sum(row['acc'] for row in every):.0f} of"
      f" {len(every)} right" + (f", {failed} failed" if failed else ""),
      file=self._stream,
      flush=True,
    )

  def close(self) -> None:
    """Leaves the terminal clean."""
    self._bar.close()


def _cell(item: Item) -> tuple[str, str, int]:
  return item.model, item.task, item.length
