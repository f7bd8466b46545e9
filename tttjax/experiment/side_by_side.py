"""Groups of devices that work at the same time, in threads and in other processes."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import json
import queue
import threading

from tttjax import hosts
from tttjax.experiment import unit_loop
from tttjax.experiment.config import Plan
from tttjax.experiment.device_groups import Group
from tttjax.experiment.samples import Samples
from tttjax.experiment.unit_loop import Begun, Done, Event
from tttjax.experiment.work_units import Place

_POLL_SECONDS = 0.2


def run(plan: Plan, samples: Samples, groups: Sequence[Group]) -> Iterator[Event]:
  """What happens in all groups: on the process that writes in those of other processes too.

  Raises:
    UserError: as unit_loop.run; the other groups end the units that they have in hand first.
  """
  mine = [group for group in groups if hosts.rank() in group.ranks]
  if len(groups) == 1:
    yield from unit_loop.run(plan, samples, mine[0])
    return
  events: queue.Queue[Event | BaseException | None] = queue.Queue()
  stop = threading.Event()
  threads = [
    threading.Thread(target=_work, args=(plan, samples, group, events.put, stop), daemon=True)
    for group in mine
  ]
  for thread in threads:
    thread.start()
  others = [group for group in groups if group not in mine] if hosts.is_writer() else []
  elsewhere, working, failure = _Elsewhere(others), len(threads), None
  try:
    while working or elsewhere.working and failure is None:
      yield from elsewhere.events()
      try:
        event = events.get(timeout=_POLL_SECONDS)
      except queue.Empty:
        continue
      if event is None or isinstance(event, BaseException):
        working -= 1
        if event is not None:
          failure = failure or event
          stop.set()
      else:
        yield event
  except GeneratorExit:  # whoever takes the events has failed
    stop.set()
    for thread in threads:
      thread.join()
    raise
  if failure is not None:
    raise failure


def _work(plan: Plan, samples: Samples, group: Group, put: Callable, stop: threading.Event) -> None:
  """A thread: the events of one group, and None at their end."""
  reports = group.ranks[0] == hosts.rank()  # of the processes that work on the same contexts
  sends = reports and not hosts.is_writer()
  number = 0
  try:
    for event in unit_loop.run(plan, samples, group):
      if sends and not isinstance(event, unit_loop.Started):
        hosts.send(f"group-{group.number}/{number}", _packed(event))
        number += 1
      if reports:
        put(event)
      if stop.is_set():
        break
    if sends:
      hosts.send(f"group-{group.number}/{number}", b"")
    put(None)
  except BaseException as error:  # to be raised in the main thread
    put(error)


class _Elsewhere:
  """The events of groups that this process has no part in, as they come."""

  def __init__(self, groups: Sequence[Group]):
    self._next = {group.number: 0 for group in groups}

  @property
  def working(self) -> bool:
    return bool(self._next)

  def events(self) -> Iterator[Event]:
    for group, number in list(self._next.items()):
      while (data := hosts.received(f"group-{group}/{number}")) is not None:
        number += 1
        if not data:
          del self._next[group]
          break
        self._next[group] = number
        yield _unpacked(data)


def _packed(event: Begun | Done) -> bytes:
  return json.dumps([type(event).__name__, dataclasses.asdict(event)]).encode()


def _unpacked(data: bytes) -> Event:
  kind, fields = json.loads(data)
  fields["place"] = Place(**fields["place"])
  listed = "missing" if kind == "Begun" else "rows"
  fields[listed] = tuple(fields[listed])
  return {"Begun": Begun, "Done": Done}[kind](**fields)
