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

from tttjax.errors import UserError
from tttjax.report.outputs import build

_COMPARISON = "comparison"


def main(arguments: Sequence[str]) -> int:
  """The command; returns its exit code, 2 for a user's mistake."""
  parser = argparse.ArgumentParser(
    "python -m tttjax.report",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("directories", metavar="DIR", nargs="+", type=pathlib.Path)
  parser.add_argument("--out", metavar="DIR", type=pathlib.Path, help="where the outputs go")
  given = parser.parse_args(arguments)
  directories = list(dict.fromkeys(d.resolve() for d in given.directories))
  several = len(directories) > 1
  out = given.out or (pathlib.Path(_COMPARISON) if several else directories[0])
  try:
    build(directories, out)
  except UserError as error:
    print(f"{parser.prog}: error: {error}", file=sys.stderr)
    return 2
  except OSError as error:
    print(
      f"{parser.prog}: error: --out={out}: {error.strerror}; choose another directory",
      file=sys.stderr,
    )
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
