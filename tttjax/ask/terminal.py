"""What a person sees: answers as they grow, what they cost, and several side by side."""

from collections.abc import Iterator, Sequence
import contextlib
import shutil
import signal
import sys
import textwrap
from typing import TextIO

from tttjax import interrupts
from tttjax.session import Cost

_PHASES = {"prefill": "read", "adapt": "adapted", "generate": "answered"}
_GAP = 3  # columns between answers side by side


class Growing:
  """Shows a text that grows.

  Attributes:
    shown: so far.
    stopped: set by Ctrl-C: the text ends there.
  """

  def __init__(self, stream: TextIO):
    self._stream, self.shown, self.stopped = stream, "", False

  def __call__(self, text: str) -> bool:
    """Shows what is new; False once it is to end."""
    if text.startswith(self.shown):  # else a character at the end has changed: wait for more
      self._stream.write(text[len(self.shown) :])
      self._stream.flush()
      self.shown = text
    return not self.stopped


@contextlib.contextmanager
def stopping(growing: Growing) -> Iterator[None]:
  """Within the block the first Ctrl-C stops the answer; a second one ends the program."""

  def stop(number, frame) -> None:
    growing.stopped = True
    interrupts.settle()
    signal.signal(signal.SIGINT, before)

  before = signal.signal(signal.SIGINT, stop)
  try:
    yield
  finally:
    interrupts.settle()
    signal.signal(signal.SIGINT, before)


def spent(cost: Cost) -> str:
  """'read 0.82 s, 3.1e9 FLOPs; answered 0.40 s, 4e8 FLOPs'."""
  seconds, work = cost.seconds(), cost.phase_flops(0)
  parts = [
    f"{word} in {seconds[phase]:.2f} s, {work[phase]:.1e} FLOPs"
    for phase, word in _PHASES.items()
    if phase in seconds and work[phase]
  ]
  return "; ".join(parts) + (" (with making its programs)" if cost.compiled else "")


def side_by_side(heads: Sequence[str], texts: Sequence[str]) -> str:
  """Texts in columns as wide as the terminal allows, each under its head."""
  width = shutil.get_terminal_size().columns
  own = max((width - _GAP * (len(texts) - 1)) // len(texts), 16)
  columns = []
  for head, text in zip(heads, texts, strict=True):
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, own) or [""]]
    columns.append([*textwrap.wrap(head, own), "-" * own, *lines])
  height = max(map(len, columns))
  rows = zip(*(column + [""] * (height - len(column)) for column in columns))
  return "\n".join((" " * _GAP).join(part.ljust(own) for part in row).rstrip() for row in rows)


def questions(prompt: str = "question> ") -> Iterator[str]:
  """What a person types, line by line, until Ctrl-D; Ctrl-C begins a line anew."""
  with contextlib.suppress(ImportError):
    import readline  # noqa: F401  history and editing of input()
  while True:
    try:
      with _plain_interrupts():
        line = input(prompt)
    except KeyboardInterrupt:
      print(file=sys.stderr)
      continue
    except EOFError:
      print(file=sys.stderr)
      return
    if line.strip():
      yield line


@contextlib.contextmanager
def _plain_interrupts() -> Iterator[None]:
  """Within the block Ctrl-C is a KeyboardInterrupt."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    yield
  finally:
    interrupts.settle()
    signal.signal(signal.SIGINT, before)
