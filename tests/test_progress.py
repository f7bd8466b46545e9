"""What a run says while it runs: on a terminal, on a narrow one, and elsewhere."""

import io
import re

import jax
import pytest

from tests import tiny_run
from tttjax.experiment import progress as progress_module
from tttjax.experiment import run


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  directory = tmp_path_factory.mktemp("checkpoint")
  tiny_run.write(directory)
  return directory


def states(stream):
  """What a terminal showed one after the other."""
  return [state.strip() for state in re.split(r"[\r\n]+", stream.getvalue()) if state.strip()]


def test_terminal_says_what_is_compiled_what_runs_and_how_long_it_will_take(
  checkpoint, tmp_path, monkeypatch
):
  monkeypatch.setattr(progress_module, "_columns", lambda: 120)
  jax.clear_caches()  # another test's programs
  stream = Terminal()
  config = tiny_run.config(
    checkpoint, strategies=("in_context", "qttt"), contexts=(4,), mechanism=False
  )
  run(config, tmp_path / "run", stream=stream)
  *shown, programs = states(stream)
  assert re.fullmatch(r"\d+ programs?: (\d+ \w[\w ]*, )+in \d+\.\d s", programs)
  assert shown[1].startswith("compiling, in_context @ 128, 1 of bank_log")
  assert any(state.startswith("qttt @ 128, 3 of bank_log") for state in shown)
  # No time is foretold before every strategy has run without compiling.
  first = next(i for i, state in enumerate(shown) if "left" in state)
  assert any("qttt @ 128" in state and "compiling" not in state for state in shown[: first + 1])
  assert "100%" in shown[-1]
  # Nothing is left to wait for, and no comma stands alone.
  assert "left" not in shown[-1]
  assert not any(text in state for state in shown for text in (" ,", "|,"))


def test_narrow_terminal_gets_short_lines_without_a_bar(checkpoint, tmp_path, monkeypatch):
  monkeypatch.setattr(progress_module, "_columns", lambda: 40)
  stream = Terminal()
  config = tiny_run.config(checkpoint, strategies=("in_context",), mechanism=False)
  run(config, tmp_path / "run", stream=stream)
  # The line on programs, if any were made, is no bar, and may be broken.
  shown = [state for state in states(stream) if not re.match(r"\d+ programs?: ", state)]
  assert all("|" not in state for state in shown)
  assert all(len(state) <= 45 for state in shown)
  assert shown[-1].endswith("100%")


def test_elsewhere_a_line_is_printed_per_finished_cell(checkpoint, tmp_path):
  config = tiny_run.config(
    checkpoint, strategies=("in_context", "thinking"), lengths=(128, 160), mechanism=False
  )
  first, again = io.StringIO(), io.StringIO()
  run(config, tmp_path / "run", stream=first)
  cells = first.getvalue().splitlines()[:4]
  assert [re.sub(r"\d+ of 4", "n of 4", line) for line in cells] == [
    f"{strategy} @ {length}, bank_log: n of 4 right"
    for length in (128, 160)
    for strategy in ("in_context", "thinking")
  ]
  run(config, tmp_path / "run", stream=again)  # nothing is left to do: the same is said at once
  assert again.getvalue().splitlines() == cells
