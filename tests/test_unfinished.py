"""What is kept of an adaptation on SIGTERM, by the thread that hears it beside the one at work."""

import threading

import jax
import numpy as np
import pytest

from tests import reference
import tttjax as tt
from tttjax import interrupts
from tttjax.experiment import unfinished as room
from tttjax.experiment.unfinished import UnfinishedAdaptations
from tttjax.experiment.work_units import Place
from tttjax.session import resuming

_TTT = tt.TTTConfig(steps=20, span=8)


@pytest.fixture
def unit(tmp_path):
  """A function: what is kept of one unit of work, as the next start finds it."""
  return lambda: UnfinishedAdaptations(tmp_path, "model", Place("bank_log", 128, 0, 0), "qttt")


@pytest.fixture
def adapt(small):
  """A function: 20 steps, kept as it is told."""
  _, model, params = small
  tokens = reference.random_tokens(np.random.default_rng(0), 1, 60)
  cache, _ = tt.prefill(model, params, tokens)
  arguments = model, params, cache, tokens, jax.random.key(3), _TTT, None
  return lambda unfinished: resuming.adapt_in_pieces(*arguments, unfinished)


def whole(folder):
  return list(folder.glob("unfinished/*/1/history.npz"))


def assert_same(got, wanted):
  jax.tree.map(np.testing.assert_array_equal, got, wanted)


def test_a_finished_adaptation_is_kept_once_asked_for_and_restored_without_a_step(
  unit, adapt, tmp_path, monkeypatch
):
  own = unit()
  wanted = adapt(own)
  assert not whole(tmp_path)
  own.save_finished()
  assert whole(tmp_path)
  monkeypatch.setattr(resuming, "adapt", None)
  again = unit()
  assert_same(adapt(again), wanted)
  again.save_finished()  # it is there already
  assert whole(tmp_path)
  again.remove()
  assert not whole(tmp_path)


def test_sigterm_between_the_last_look_and_the_end_of_the_steps_is_not_missed(
  unit, adapt, tmp_path, monkeypatch
):
  own = unit()
  monkeypatch.setattr(own, "asked", lambda: False)  # between the pieces
  monkeypatch.setattr(interrupts, "asked", lambda: True)
  adapt(own)
  assert whole(tmp_path)


def test_nothing_is_kept_after_the_rows(unit, adapt, tmp_path):
  own = unit()
  adapt(own)
  own.remove()
  own.save_finished()
  assert not list(tmp_path.glob("unfinished/*"))


def test_what_is_being_written_when_the_rows_are_there_is_removed(
  unit, adapt, tmp_path, monkeypatch
):
  own, begun, on = unit(), threading.Event(), threading.Event()
  save = room.save_fast

  def slowly(*arguments):
    begun.set()
    on.wait()
    save(*arguments)

  monkeypatch.setattr(room, "save_fast", slowly)
  adapt(own)
  threads = [threading.Thread(target=own.save_finished), threading.Thread(target=own.remove)]
  threads[0].start()
  begun.wait()
  threads[1].start()
  on.set()
  for thread in threads:
    thread.join()
  assert not list(tmp_path.glob("unfinished/*"))


def test_a_disk_that_takes_nothing_costs_only_what_would_have_been_kept(
  unit, adapt, tmp_path, monkeypatch, caplog
):
  def full(*_):
    raise OSError(28, "No space left on device")

  own = unit()
  monkeypatch.setattr(room, "save_fast", full)
  adapt(own)
  own.save_finished()
  assert "the adaptation is not saved: [Errno 28] No space left" in caplog.text
  monkeypatch.undo()
  assert unit().restore((None, None)) is None
