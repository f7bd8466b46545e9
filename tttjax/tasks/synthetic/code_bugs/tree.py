"""A Python source tree: where it is, its files, and the places where a bug can be put."""

import dataclasses
import functools
import importlib.util
import os
import pathlib
import re
import zlib

from tttjax import third_party
from tttjax.errors import UserError
from tttjax.files import user_path

# Imported for their entries in OPERATORS.
from tttjax.tasks.synthetic.code_bugs import arithmetic, arrays, calls, control  # noqa: F401
from tttjax.tasks.synthetic.code_bugs.mutation import Site, find_sites
from tttjax.tasks.synthetic.code_bugs.syntax import Code

_MAX_LINES = 100_000  # of a tree, ten times the longest haystack; of a larger one a part is read
_MAX_COLUMNS = 400  # a longer line is data, not code
# A control token of a chat template inside the haystack would end the user's message.
_CONTROL = re.compile(r"<\|\w+\|>|</?think>|</?tool_call>")
_TESTS = re.compile(r"(^|/)(tests?|testing|testdata)/|(^|/)(test_[^/]*|[^/]*_test|conftest)\.py$")


@dataclasses.dataclass(frozen=True)
class File:
  """One file: its path relative to the tree, with `/`, and its lines without newlines."""

  path: str
  lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Tree:
  """The files of a source tree, by path, and its sites.

  Attributes:
    files: all files that the haystack may show.
    sites: operator name to its sites, each with the index of its file.
  """

  files: tuple[File, ...]
  sites: dict[str, tuple[tuple[int, Site], ...]]

  @property
  def num_lines(self) -> int:
    return sum(len(file.lines) for file in self.files)


def find_root(source: str) -> tuple[pathlib.Path, pathlib.Path]:
  """The folder of a source's files, and the one that their paths are relative to.

  A name with a path separator is a directory; any other is a manifest of third_party/, an
  installed top-level package, or a directory, the first of these that exists.

  Raises:
    UserError: there is none, or its manifest has not been fetched.
  """
  if not source:
    raise UserError("code_bugs(source=): name an installed package, a directory or a manifest")
  if os.sep in source or "/" in source or source.startswith((".", "~")):
    folder = user_path(source, "code_bugs: source")
    if not os.path.isdir(folder):  # pathlib's raises where a name is too long
      raise UserError(f"code_bugs(source={source}): no such directory")
    return folder, folder
  if source in third_party.manifest_names():
    manifest = third_party.load_manifest(source)
    folder = third_party.location(manifest)
    if not folder.is_dir():
      raise UserError(f"code_bugs(source={source}): not fetched yet; run {manifest.command}")
    return folder, folder
  # Finding a name with dots would import what is in front of them.
  try:
    spec = importlib.util.find_spec(source) if source.isidentifier() else None
  except ValueError:  # __main__ has none
    spec = None
  if spec is not None and spec.submodule_search_locations:
    folder = pathlib.Path(list(spec.submodule_search_locations)[0])
    return folder, folder.parent
  folder = pathlib.Path(source)
  if not os.path.isdir(folder):
    known = ", ".join(third_party.manifest_names())
    raise UserError(
      f"code_bugs(source={source}): no installed package, directory or manifest "
      f"({known}) of that name"
    )
  return folder, folder


def load_tree(source: str) -> Tree:
  """Reads a source tree and finds its sites.

  Files of tests, of data, with control tokens of chats or with syntax errors are left out; of a
  tree beyond 100,000 lines a fixed part is taken.

  Raises:
    UserError: no such source, or no Python file with a place for a bug.
  """
  folder, base = find_root(source)
  tree = _load(folder.resolve(), base.resolve())
  if not tree.files:
    raise UserError(
      f"code_bugs(source={source}): {folder} has no Python files to read; files of "
      "tests are left out"
    )
  if not any(tree.sites.values()):
    raise UserError(
      f"code_bugs(source={source}): no line of the {len(tree.files)} Python files "
      f"in {folder} can be given a bug"
    )
  return tree


@functools.lru_cache(maxsize=8)
def _load(folder: pathlib.Path, base: pathlib.Path) -> Tree:
  paths = sorted(
    path.relative_to(base).as_posix()
    for path in folder.rglob("*.py")
    if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    and os.path.isfile(path)  # no pipe or device, which may never end
  )
  files, lines = [], 0
  # By checksum: the part of a large tree that is taken comes from all over it.
  for name in sorted(paths, key=lambda name: zlib.crc32(name.encode())):
    file = None if _TESTS.search(name) else _read(base / name, name)
    if file is not None:
      files.append(file)
      lines += len(file[0].lines)
    if lines >= _MAX_LINES:
      break
  files.sort(key=lambda file: file[0].path)
  sites = {}
  for i, (_, code) in enumerate(files):
    for site in find_sites(code):
      sites.setdefault(site.operator, []).append((i, site))
  return Tree(
    tuple(file for file, _ in files), {name: tuple(sites[name]) for name in sorted(sites)}
  )


def _read(path: pathlib.Path, name: str) -> tuple[File, Code] | None:
  """A file with its parse; None where it does not belong into a haystack."""
  try:
    text = path.read_text(encoding="utf-8").rstrip("\n")
    if not text or _CONTROL.search(text) or "\f" in text or "\0" in text:
      return None
    code = Code(text)
  except (OSError, UnicodeDecodeError, SyntaxError, RecursionError):
    return None
  if max(map(len, code.lines)) > _MAX_COLUMNS:
    return None
  return File(name, tuple(code.lines)), code
