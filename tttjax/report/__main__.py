"""Rebuilds the report of a run from its rows, or compares several runs.

  python -m tttjax.report DIR [DIR...] [--out=DIR]

Reads the work directories' samples_*.jsonl and config.json, and writes report.html, figures/*.png
and results_*.json into --out: by default the work directory itself, or `comparison` where several
are given. Nothing in a work directory but these outputs is changed, so a run may still be going on.
"""

import argparse
from collections.abc import Sequence
import pathlib
import sys

from tttjax import files, program
from tttjax.report.outputs import build

_COMPARISON = "comparison"


def main(arguments: Sequence[str]) -> int | str:
  """The command; returns its exit code, as `tttjax.program` defines them."""
  return program.run(lambda: _build(arguments))


def _build(arguments: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(
    "python -m tttjax.report",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("directories", metavar="DIR", nargs="+")
  parser.add_argument("--out", metavar="DIR", help="where the outputs go")
  given = parser.parse_args(arguments)
  paths = [files.user_path(text, "DIR") for text in given.directories]
  directories = list(dict.fromkeys(path.resolve() for path in paths))
  several = len(directories) > 1
  out = pathlib.Path(_COMPARISON) if several else directories[0]
  if given.out is not None:
    out = files.user_path(given.out, "--out")
  build(directories, out)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
