"""Contexts of a run several at a time: the rows of one by one."""

import numpy as np
import pytest

from tests import tiny_run
from tttjax.errors import UserError
from tttjax.experiment import running
from tttjax.experiment.device_groups import Group, check_batch
from tttjax.rows import key_of
from tttjax.strategies import STRATEGIES
from tttjax.strategies.in_context import InContext

_SPECS = {"self_consistency": "self_consistency(temperature=0.6)", "full_ttt": "full_ttt(steps=1)"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  directory = tmp_path_factory.mktemp("checkpoint")
  tiny_run.write(directory)
  return directory


def rows(checkpoint, directory, **fields):
  config = tiny_run.config(checkpoint, contexts=(3,), thinking__budget=96, **fields)
  return {key_of(row): row for row in running.run(config, directory).rows}


def close(a, b):
  """Whether two values of a row are equal, numbers up to rounding."""
  if isinstance(a, dict):
    return a.keys() == b.keys() and all(close(a[name], b[name]) for name in a)
  if isinstance(a, (list, tuple)):
    return len(a) == len(b) and all(map(close, a, b))
  if isinstance(a, float):
    return bool(np.isclose(a, b, rtol=1e-3, atol=1e-4))
  return a == b


def test_every_strategy_has_the_rows_of_one_by_one(checkpoint, tmp_path):
  """Two at a time, and the third alone: what it found is bit for bit what it was."""
  strategies = tuple(_SPECS.get(name, name) for name in STRATEGIES)
  one = rows(checkpoint, tmp_path / "one", strategies=strategies)
  two = rows(checkpoint, tmp_path / "two", strategies=strategies, batch_contexts=2)
  assert one.keys() == two.keys()
  for key, expected in one.items():
    found = dict(two[key])
    assert expected["error"] is None
    for timing in ("seconds", "compiled"):
      assert found.pop(timing).__class__ is expected.pop(timing).__class__
    assert found["resps"] == expected["resps"], key
    assert found["flops"] == expected["flops"]
    wrong = {name for name in expected if not close(found[name], expected[name])}
    assert not wrong, (key, {name: (found[name], expected[name]) for name in wrong})


def test_a_run_may_go_on_with_other_batches(checkpoint, tmp_path):
  rows(checkpoint, tmp_path, strategies=("in_context",))
  grown = rows(checkpoint, tmp_path, strategies=("in_context", "qttt"), batch_contexts=4)
  assert len(grown) == 2 * 3 * 2


def test_an_example_that_fails_does_so_alone(checkpoint, tmp_path, monkeypatch):
  call = InContext.__call__

  def failing(self, session, case, allowance, key):
    if case.example.key == failing.key:
      raise UserError("too long, say")
    failing.key = failing.key or case.example.key
    return call(self, session, case, allowance, key)

  failing.key = None
  whole = rows(checkpoint, tmp_path / "whole", strategies=("in_context",))
  failing.key = sorted(row["doc"]["key"] for row in whole.values())[2]
  monkeypatch.setattr(InContext, "__call__", failing)
  made = rows(checkpoint, tmp_path / "part", strategies=("in_context",), batch_contexts=3)
  for key, row in made.items():
    if row["doc"]["key"] == failing.key:
      assert "too long, say" in row["error"]
    else:
      assert row["resps"] == whole[key]["resps"] and row["error"] is None
  assert {row["error"] is None for row in made.values()} == {True, False}


def test_batches_in_a_group_of_several_processes_are_refused():
  check_batch([Group(0, 2, None, (0,)), Group(1, 2, None, (1,))], 2)
  check_batch([Group(0, 1, None, (0, 1))], 1)
  with pytest.raises(UserError, match="config.batch_contexts=2: .* several processes"):
    check_batch([Group(0, 1, None, (0, 1))], 2)
