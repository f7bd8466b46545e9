"""Files as one context."""

from collections.abc import Sequence
import sys

from tttjax.errors import UserError
from tttjax.files import read_regular, user_path

STANDARD_INPUT = "-"
_HEAD = "[TASK] Answer the question about the text below.\n[CONTEXT]\n"
# A text that begins so has instructions of its own.
_OWN_HEAD = ("[TASK]", "[SYSTEM]")


def context_of(paths: Sequence[str]) -> str:
  """The user's text up to the question, of one file or of several under their names.

  Args:
    paths: text files; '-' is standard input.

  Raises:
    UserError: a file cannot be read, is no UTF-8 text, or there is nothing in it.
  """
  texts = [(path, _text_of(path)) for path in paths]
  if len(texts) == 1:
    text = texts[0][1]
    return text if text.startswith(_OWN_HEAD) else _HEAD + text
  parts = (f"===== {path} =====\n{text}" for path, text in texts)
  return _HEAD + "\n".join(parts)


def _text_of(path: str) -> str:
  """A file's text, with a line break at its end."""
  if path == STANDARD_INPUT:
    name, data = "standard input", sys.stdin.buffer.read()
  else:
    name, data = path, _read(path)
  try:
    text = data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise UserError(
      f"--context={name}: not UTF-8 text ({error.reason} at byte {error.start}); convert it"
    ) from None
  if not text.strip():
    raise UserError(f"--context={name}: there is nothing in it")
  return text.rstrip("\n") + "\n"


def _read(path: str) -> bytes:
  file = user_path(path, "--context")
  if file.is_dir():
    raise UserError(f"--context={path}: a directory; name its files")
  try:
    return read_regular(file)
  except UserError as error:
    raise UserError(f"--context: {error}") from None
