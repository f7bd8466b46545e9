"""Prose for a haystack: the sentences of a text, those of code, lists and tables left out."""

import functools
import os
import pathlib
import re

from tttjax.errors import UserError
from tttjax.files import user_path

_SUFFIXES = (".txt", ".md", ".rst")

_HYPHEN = re.compile(r"(?<=\w-)\n\s*(?=\w)")  # at the end of a line
_PARAGRAPH = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
_BULLET = re.compile(r"^\s*(?:[*+-]|\d+[.)])\s+")
_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"')\u201d\u2019])\s+|(?<=[\u3002\uff01\uff1f])")
_WHOLE = re.compile(r"[.!?\u3002\uff01\uff1f][\"')\u201d\u2019]*$")
_CUT_OFF = re.compile(r"\b(?:e\.g|i\.e|cf|vs|approx|Mrs?|Dr|St|[A-Z])\.$")
# Markup and code, control tokens of chat templates, and what reads like a needle.
_STRANGE = re.compile(
  r"[*`_=<>{}\[\]\\|~^@#$/]|::|\.\.|\w\(|\bin version \d|^See "
  r"|\d{5}|\bVAR\b|\b[Mm]agic (?:number|code)"
)
_LENGTHS = (15, 300)  # characters


def sentences(source: str) -> tuple[str, ...]:
  """The different sentences of a source, in its order.

  Args:
    source: a text file, or a folder whose .txt, .md and .rst files are read, in UTF-8; '' is the
      language reference that Python's help() shows, another text in another version of Python.

  Raises:
    UserError: no such file or folder, a file that cannot be read as UTF-8, or no sentence.
  """
  path = user_path(source, "needles: source").resolve() if source else None
  found = _load(path)
  if not found:
    raise UserError(f"needles(source={source}): no sentence of prose in it; name another text")
  return found


@functools.lru_cache(maxsize=8)
def _load(path: pathlib.Path | None) -> tuple[str, ...]:
  texts = _shipped() if path is None else [_read(file) for file in _files(path)]
  return tuple(dict.fromkeys(sentence for text in texts for sentence in split(text)))


def split(text: str) -> list[str]:
  """The sentences of a text, each on one line; what is no whole sentence of prose is left out."""
  found = []
  for paragraph in _PARAGRAPH.split(text.replace("\r\n", "\n")):
    joined = " ".join(_HYPHEN.sub("", _BULLET.sub("", paragraph)).split())
    found += [sentence for sentence in map(str.strip, _END.split(joined)) if _is_prose(sentence)]
  return found


def _is_prose(sentence: str) -> bool:
  return (
    _LENGTHS[0] <= len(sentence) <= _LENGTHS[1]
    and sentence[0].isalpha()
    and not sentence[0].islower()
    and bool(_WHOLE.search(sentence))
    and not _CUT_OFF.search(sentence)
    and not _STRANGE.search(sentence)
  )


def _shipped() -> list[str]:
  try:
    from pydoc_data import topics
  except ImportError:
    raise UserError(
      "needles(source=): this Python lacks pydoc_data; name a text file or a folder"
    ) from None
  return [topics.topics[name] for name in sorted(topics.topics)]


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  # Of os.path: pathlib raises where a name is too long or a folder is closed. Not a pipe or a
  # device, which may never end.
  if os.path.isfile(path):
    return [path]
  if not os.path.isdir(path):
    raise UserError(f"needles(source={path}): no such file or folder")
  files = sorted(f for f in path.rglob("*") if f.suffix in _SUFFIXES and os.path.isfile(f))
  if not files:
    raise UserError(f"needles(source={path}): the folder has no {', '.join(_SUFFIXES)} file")
  return files


def _read(path: pathlib.Path) -> str:
  try:
    return path.read_text(encoding="utf-8-sig")
  except UnicodeDecodeError as error:
    raise UserError(
      f"needles(source={path}): not UTF-8 text (byte {error.start}); convert it or leave it out"
    ) from None
  except OSError as error:
    raise UserError(f"needles(source={path}): cannot be read: {error.strerror}") from None
