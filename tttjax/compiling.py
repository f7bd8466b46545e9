"""How many programs XLA has compiled for a thread: seconds with one among them measure nothing."""

import functools
import threading

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"


class _Compiled(threading.local):
  """A program is compiled in the thread that calls it."""

  number = 0


_here = _Compiled()


@functools.cache
def _listen() -> None:
  """Once in a process: jax's listeners cannot come and go while other threads compile."""

  def hear(event: str, duration: float, **unused) -> None:
    if event == _COMPILED:
      _here.number += 1

  jax.monitoring.register_event_duration_secs_listener(hear)


def count() -> int:
  """Programs that were compiled for this thread since it first asked."""
  _listen()
  return _here.number


def add(number: int) -> None:
  """Counts programs for this thread that another one had compiled on its behalf."""
  _here.number += number
