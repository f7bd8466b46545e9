"""How the package's programs begin and end: open standard streams, signals, exit codes.

Exit codes: 0; 1 where a run has no result; 2 for what the user can mend, with one line on stderr;
130 after Ctrl-C, 42 after SIGTERM or where another of its processes is gone, 141 where the reader
of its output went away.

Imported before everything else: `python -m tttjax.NAME` (or launch.NAME) imports the package, which
takes seconds, before NAME, and Ctrl-C must be heard by then.
"""

from collections.abc import Callable
import contextlib
import errno
import os
import pathlib
import re
import sys
import traceback

from tttjax import farewell, files, interrupts
from tttjax.errors import UserError

_MISTAKE, _INTERRUPTED, _NO_READER = 2, 130, 141
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run(function: Callable[[], int | str | None]) -> int | str:
  """Calls `function` and returns the exit code: its own, or that of the error it raised.

  UserError and OSError become one line on stderr; other errors are bugs and keep their traceback.
  Where someone has to be told of the end (farewell.py) the process ends here.
  """
  try:
    code, reason = _result(function)
  except BaseException as error:
    if farewell.say(f"{type(error).__name__}: {error}", 1):
      traceback.print_exc()
      os._exit(1)
    raise
  if reason and farewell.say(reason, code):
    os._exit(code)
  return code


def _result(function: Callable[[], int | str | None]) -> tuple[int | str, str]:
  """The exit code, and in words why it is an error's; '' where it is the function's own."""
  if hasattr(sys.stdout, "reconfigure"):  # names that the terminal's encoding lacks are no error
    sys.stdout.reconfigure(errors="backslashreplace")
  try:
    with contextlib.redirect_stdout(_Named(sys.stdout)):
      try:
        code = function() or 0
      except SystemExit as exit_:  # after --help
        code = exit_.code or 0
      sys.stdout.flush()
      return code, ""
  except UserError as error:
    _complain(str(error))
    return _MISTAKE, str(error)
  except KeyboardInterrupt as interrupt:
    _complain(str(interrupt) or "interrupted", kind="")
    return _INTERRUPTED, "interrupted"
  except BrokenPipeError as error:
    return _NO_READER, str(error)
  except OSError as error:
    reason = error.strerror or str(error)
    named = reason if error.filename is None else f"{error.filename}: {reason}"
    if error.errno in _FULL:
      named += "; make room"
    elif error.filename is not None:
      named += "; use one that can be read and written"
    _complain(f"{named}; what was written is kept")
    return _MISTAKE, named
  finally:
    for stream in (sys.stdout, sys.stderr):
      _silence_if_broken(stream)


def name() -> str:
  """What messages call the program: main.py, or report for tttjax/report/__main__.py."""
  path = pathlib.Path(sys.argv[0])
  if sys.argv[0] == "-m":
    return _module_being_started() or "python"
  return path.parent.name if path.stem == "__main__" else path.name


def _complain(text: str, kind: str = "error: ") -> None:
  with contextlib.suppress(OSError):
    print(f"{name()}: {kind}{' '.join(text.split())}", file=sys.stderr, flush=True)


class _Named:
  """A stream whose errors name it. Writers of files name theirs; print names none."""

  def __init__(self, stream):
    self._stream = stream

  def __getattr__(self, attribute: str):
    return getattr(self._stream, attribute)

  def write(self, text: str) -> int:
    with files.naming("standard output"):
      return self._stream.write(text)

  def flush(self) -> None:
    with files.naming("standard output"):
      self._stream.flush()


def _silence_if_broken(stream) -> None:
  """The interpreter's last flush would complain once more, and change the exit code."""
  try:
    stream.flush()
  except OSError:
    with contextlib.suppress(OSError):
      os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_standard_streams() -> None:
  """A closed one would be the next file that is opened, which then gets what libraries print."""
  while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
    pass
  os.close(descriptor)
  sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")
  sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")


def _module_being_started() -> str | None:
  """NAME while `python -m NAME` looks for it, if it is one of the repository's programs."""
  if sys.argv[:1] != ["-m"]:
    return None
  last = sys.orig_argv[len(sys.orig_argv) - len(sys.argv)]
  match = re.fullmatch(r"(?:-\w*m)?((?:tttjax|launch)(?:\.\w+)*)", last)
  return match and match[1]


if _module_being_started():
  _open_standard_streams()
  interrupts.install(name)
