"""How many programs XLA has made: seconds with one among them measure nothing, and a run says how
many it needed."""

import functools
import threading
from typing import NamedTuple

import jax

_MADE = "/jax/core/compile/backend_compile_duration"  # compiled, or loaded from the cache
_LOADED = "/jax/compilation_cache/cache_hits"


class _Made(threading.local):
  """A program is made in the thread that calls it."""

  number = 0


_here = _Made()


class Programs(NamedTuple):
  """Of the whole process since it first asked: programs made, those among them that were loaded
  from the cache, and the seconds of both."""

  made: int = 0
  loaded: int = 0
  seconds: float = 0.0

  def since(self, earlier: "Programs") -> "Programs":
    """Those that came after."""
    return Programs(*(now - before for now, before in zip(self, earlier)))

  def __str__(self) -> str:
    """'59 programs: 12 compiled, 47 from the cache, in 8.1 s'."""
    parts = {"compiled": self.made - self.loaded, "from the cache": self.loaded}
    said = ", ".join(f"{number} {what}" for what, number in parts.items() if number)
    return f"{self.made} program{'s' * (self.made > 1)}: {said}, in {self.seconds:.1f} s"


_lock = threading.Lock()
_all = Programs()


def _more(made: int = 0, loaded: int = 0, seconds: float = 0.0) -> None:
  global _all
  with _lock:
    _all = Programs(_all.made + made, _all.loaded + loaded, _all.seconds + seconds)


@functools.cache
def _listen() -> None:
  """Once in a process: jax's listeners cannot come and go while other threads compile."""

  def hear_duration(event: str, duration: float, **unused) -> None:
    if event == _MADE:
      _here.number += 1
      _more(made=1, seconds=duration)

  def hear(event: str, **unused) -> None:
    if event == _LOADED:
      _more(loaded=1)

  jax.monitoring.register_event_duration_secs_listener(hear_duration)
  jax.monitoring.register_event_listener(hear)


def count() -> int:
  """Programs that were made for this thread, compiled or loaded, since it first asked."""
  _listen()
  return _here.number


def add(number: int) -> None:
  """Counts programs for this thread that another one had made on its behalf."""
  _here.number += number


def so_far() -> Programs:
  """Those of every thread."""
  _listen()
  return _all
