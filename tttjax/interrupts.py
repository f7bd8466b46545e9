"""Ctrl-C and SIGTERM end a program with one line and exit code 130 or 42, at any moment.

Python gives a signal to the main thread, between two of its steps: not before a compilation has
ended, and perhaps to a callback of the garbage collector or of an import, which loses it. And the
interpreter's shutdown crashes where XLA's threads still compile. So a thread waits for the signal
and ends the process itself. Files survive that as they survive SIGKILL: a half-written row is cut
off by the next start, and other files appear complete or not at all.

42 tells schedulers to start the program again: who sends SIGTERM takes the machine, not the task.
Within `grace` the work in hand may be finished first, and what would be lost if it is not is saved.
"""

from collections.abc import Callable, Iterator
import contextlib
import os
import signal
import threading
import time

from tttjax import farewell, files

RESTART = 42
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: RESTART}
_VERBS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


def _heard(number, frame) -> None:
  """Does nothing: only a signal that has a handler in Python reaches the thread that waits."""


def _nothing() -> str:
  return ""


_name: Callable[[], str] = _nothing
_remark: Callable[[], str] = _nothing
_SETTLE = 0  # in the pipe of signals' numbers: not one of them
_SETTLE_SECONDS = 5
_pipe: int | None = None  # its end that is written to; None before `install`
_settled = threading.Event()
_grace = 0.0  # seconds
_asked, _paused = threading.Event(), threading.Event()
_also_ask: Callable[[], None] | None = None
_save: Callable[[], None] | None = None


def install(name: Callable[[], str]) -> None:
  """Ends this process by one line on SIGINT and SIGTERM, except where one of them is ignored.

  To be called from the main thread. Forked children would inherit handlers without the thread that
  serves them; those that execute a program get the defaults.

  Args:
    name: the program's, which begins the line.
  """
  global _pipe, _name
  _name = name
  read_end, write_end = os.pipe()
  _pipe = write_end
  os.set_blocking(write_end, False)
  signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
  threading.Thread(target=_watch, args=(read_end, name), name="interrupts", daemon=True).start()
  for number in EXIT_CODES:
    if signal.getsignal(number) == _DEFAULTS[number]:
      signal.signal(number, _heard)


def settle() -> None:
  """Waits until the thread has seen the signals that came so far.

  To be called before a handler that did not end the program makes way for the one that does: the
  thread asks for the handler when it reads of a signal, which may be later.
  """
  if _pipe is not None:
    _settled.clear()
    os.write(_pipe, bytes([_SETTLE]))
    _settled.wait(_SETTLE_SECONDS)


def uninstall() -> None:
  """From here on Ctrl-C is a KeyboardInterrupt: for programs that have processes to stop first."""
  for number in EXIT_CODES:
    if signal.getsignal(number) == _heard:
      signal.signal(number, _DEFAULTS[number])


def _watch(read_end: int, name: Callable[[], str]) -> None:
  while True:
    for number in os.read(read_end, 64):
      if number == _SETTLE:
        _settled.set()
      if number in EXIT_CODES and signal.getsignal(number) == _heard:
        if number == signal.SIGTERM and _grace:
          ask()
        else:
          _leave(number, name)


def ask() -> None:
  """SIGTERM was heard, here or by a process that works with this one.

  The program ends at the next `pause`, or when its grace is over.
  """
  if not _asked.is_set():
    _asked.set()
    for work in filter(None, (_leave_in_time, _save)):
      threading.Thread(target=work, name="interrupts", daemon=True).start()


def also_ask(function: Callable[[], None] | None) -> None:
  """From here on `function`, or nothing, is called when SIGTERM was heard."""
  global _also_ask
  _also_ask = function


def _leave_in_time() -> None:
  if _also_ask:
    _also_ask()
  _paused.wait(_grace)
  _leave(signal.SIGTERM, _name)


def _leave(number: int, name: Callable[[], str]) -> None:
  try:
    # Not through sys.stderr, whose lock the main thread may hold. A bar is left as it is.
    bar = "\n" if os.isatty(2) else ""
    os.write(2, f"{bar}{name()}: {_VERBS[number]}{_remark()}\n".encode())
    farewell.say(_VERBS[number], EXIT_CODES[number])
    files.remove_unfinished()
  finally:
    os._exit(EXIT_CODES[number])


@contextlib.contextmanager
def grace(seconds: float) -> Iterator[None]:
  """Within the block SIGTERM waits for the next `pause`, so many seconds at most."""
  global _grace
  before, _grace = _grace, seconds
  try:
    yield
    pause()
  finally:
    _grace = before


@contextlib.contextmanager
def saving(function: Callable[[], None]) -> Iterator[None]:
  """Within the block `function` is called once SIGTERM is heard, while the work in hand goes on.

  In another thread, since the work may be one long program: it keeps what would have to be done
  again if the grace ends first.
  """
  global _save
  before, _save = _save, function
  try:
    yield
  finally:
    _save = before


def asked() -> bool:
  """Whether SIGTERM has been heard, so that the next `pause` ends the program."""
  return _asked.is_set()


def pause() -> None:
  """The work in hand is finished: where SIGTERM has been heard the program ends here."""
  if _asked.is_set():
    _paused.set()
    while True:  # the other thread ends the process
      time.sleep(1)


def remark() -> str:
  """What the line of an interruption would add now."""
  return _remark()


@contextlib.contextmanager
def remarking(text: Callable[[], str]) -> Iterator[None]:
  """Within the block the line is 'interrupted' (or 'terminated') and what `text` returns.

  It is called in another thread, and also where Ctrl-C is a KeyboardInterrupt: in a program that
  did not call `install`, such as a notebook.
  """
  global _remark
  before, _remark = _remark, text
  try:
    yield
  except KeyboardInterrupt:
    raise KeyboardInterrupt(_VERBS[signal.SIGINT] + text()) from None
  finally:
    _remark = before
