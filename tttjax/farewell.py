"""What a program that ends before its work is done does last: it tells who has to know."""

from collections.abc import Callable

Tell = Callable[[str, int], None]

_tell: Tell | None = None


def tell(function: Tell | None) -> None:
  """From here on `function`, or nothing, is called with the reason and the exit code of an end."""
  global _tell
  _tell = function


def say(reason: str, code: int) -> bool:
  """Tells; returns whether there was someone to tell."""
  if _tell is None:
    return False
  _tell(reason, code)
  return True
