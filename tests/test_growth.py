"""A work directory accepts additions and refuses what cannot be mixed."""

import json

import pytest

from tests import tiny_run
from tests.errors import user_error
from tttjax import rows
from tttjax.experiment import run
from tttjax.experiment.growth import grown
from tttjax.session import Session

_SETTINGS = {
  "models": ["a"],
  "tasks": ["bank_log"],
  "lengths": [128, 256],
  "contexts": [2],
  "questions": 2,
  "seeds": [0],
  "strategies": ["in_context"],
  "ttt.steps": 4,
  "mesh.data": 1,
  "batch_contexts": 1,
  "checkpoint_sha256": {"a": "1"},
  "git_hash": "old",
}


@pytest.mark.parametrize(
  "changes",
  [
    {"strategies": ["qttt", "in_context"]},
    {"tasks": ["bank_log", "code_bugs"]},
    {"lengths": [512, 256, 128]},
    {"seeds": [0, 1]},
    {"contexts": [3]},
    {"contexts": [2, 5]},
    {"lengths": [128, 256, 512], "contexts": [2, 2, 1]},
    {"questions": 6},
    {"models": ["a", "b"], "checkpoint_sha256": {"a": "1", "b": "2"}},
    {"mesh.data": 4},
    {"batch_contexts": 8},
    {"attention": "pallas_tpu"},
    {"git_hash": "new"},
  ],
)
def test_additions_are_accepted_and_remembered(changes):
  merged, problems = grown(_SETTINGS, _SETTINGS | changes)
  assert not problems
  assert merged == _SETTINGS | changes | {"git_hash": "old"} | (
    {"grown": merged["grown"]} if "grown" in merged else {}
  )
  assert ("grown" in merged) == (list(changes) != ["git_hash"])


@pytest.mark.parametrize(
  "changes, words",
  [
    ({"strategies": ["qttt"]}, "strategies: in_context there and not now"),
    ({"lengths": [128]}, "lengths: 256 there"),
    ({"contexts": [1]}, "contexts: 2 there, 1 now at length 128"),
    ({"contexts": [2, 1]}, "contexts: 2 there, 1 now at length 256"),
    ({"questions": 1}, "questions: 2 there, 1 now"),
    ({"ttt.steps": 8}, "ttt.steps: 4 there, 8 now"),
    ({"checkpoint_sha256": {"a": "2"}}, "the files of the model a changed"),
    ({"more": 1}, "more: (absent) there, 1 now"),
    ({"contexts": [2, 2, 2]}, "contexts: not one number, or one for each length"),
  ],
)
def test_what_cannot_be_mixed_is_said(changes, words):
  _, problems = grown(_SETTINGS, _SETTINGS | changes)
  assert words in problems[0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  directory = tmp_path_factory.mktemp("checkpoint")
  tiny_run.write(directory)
  return directory


def without_timing(all_rows):
  drop = ("seconds", "compiled")
  return {rows.key_of(row): {k: v for k, v in row.items() if k not in drop} for row in all_rows}


def test_a_grown_run_has_the_rows_of_one_that_was_that_large_from_the_start(
  checkpoint, tmp_path, monkeypatch
):
  small = dict(strategies=("in_context",), contexts=(1,), questions=1, mechanism=False)
  large = dict(
    strategies=("in_context", "qttt_other_context"),
    contexts=(2,),
    questions=2,
    seeds=(0, 5),
    mechanism=False,
  )
  first = run(tiny_run.config(checkpoint, **small), tmp_path / "grown")
  whole = run(tiny_run.config(checkpoint, **large), tmp_path / "whole")
  before = next((tmp_path / "grown").glob("samples_*")).read_bytes()
  added = run(tiny_run.config(checkpoint, **large), tmp_path / "grown")
  after = next((tmp_path / "grown").glob("samples_*")).read_bytes()
  assert len(first.rows) == 1 and after.startswith(before)
  new, old = without_timing(added.rows), without_timing(whole.rows)
  assert new.keys() == old.keys()
  for key, row in new.items():
    # The context's shared cost was divided among the questions that were asked with it.
    kept = {k: v for k, v in row.items() if k != "amortised_flops"}
    assert kept == {k: v for k, v in old[key].items() if k != "amortised_flops"}
  assert json.loads((tmp_path / "grown" / "config.json").read_text())["grown"]
  # Nothing is missing: no context is made again but the first, no model is loaded.
  monkeypatch.setattr(Session, "open", lambda *unused, **named: pytest.fail("loaded the model"))
  assert run(tiny_run.config(checkpoint, **large), tmp_path / "grown").rows == added.rows


def test_yarn_makes_other_rows_and_is_written_down(checkpoint, tmp_path):
  small = dict(strategies=("in_context",), contexts=(1,), questions=1, mechanism=False)
  extended = small | {"yarn__factor": 2.0, "yarn__original": 1024}
  plain = run(tiny_run.config(checkpoint, **small), tmp_path / "plain")
  long = run(tiny_run.config(checkpoint, **extended, lengths=(1100,)), tmp_path / "long")
  settings = [
    json.loads((one.workdir / "config.json").read_text(encoding="utf-8")) for one in (plain, long)
  ]
  assert not any(name.startswith("yarn") for name in settings[0])  # as before there was YaRN
  assert settings[1]["yarn.factor"] == 2.0 and settings[1]["yarn.original"] == 1024
  assert settings[0]["checkpoint_sha256"] != settings[1]["checkpoint_sha256"]
  with user_error("yarn.factor: (absent) there, 2.0 now"):
    run(tiny_run.config(checkpoint, **extended), tmp_path / "plain")
  with user_error("1024 positions", "config.yarn.factor"):
    run(tiny_run.config(checkpoint, **small, lengths=(1100,)), tmp_path / "none")
  with user_error(f"config.yarn: {checkpoint}: factor must be at least 1", "yarn.factor=0"):
    run(tiny_run.config(checkpoint, **(extended | {"yarn__factor": 0.5})), tmp_path / "none")


def test_examples_are_made_as_they_are_needed(checkpoint, tmp_path, monkeypatch):
  class Made(Exception):
    pass

  def stop(*unused, **named):
    raise Made

  # So many contexts could not be made before the first answer.
  monkeypatch.setattr(Session, "open", stop)
  with pytest.raises(Made):
    run(tiny_run.config(checkpoint, contexts=(100_000,)), tmp_path / "run")


def test_a_run_is_a_list_of_rows_and_a_table(checkpoint, tmp_path):
  finished = run(
    tiny_run.config(checkpoint, strategies=("in_context",), mechanism=False), tmp_path / "run"
  )
  assert len(finished.rows) == len(finished.table()) == 4 and not finished.failed
  assert set(finished.table()["doc.context_tokens"]) == {
    row["doc"]["context_tokens"] for row in finished.rows
  }


def test_rows_keep_the_schema(checkpoint, tmp_path):
  finished = run(tiny_run.config(checkpoint, strategies=("qttt", "thinking")), tmp_path / "run")
  assert [rows.problem(row) for row in finished.rows] == [None] * 8
  for row in finished.rows:
    for name in ("model", "acc", "family", "endings", "flops"):
      broken = {k: v for k, v in row.items() if k != name}
      assert repr(name) in rows.problem(broken)
    for name, value in (("acc", 17), ("length", "long"), ("seed", -1), ("endings", [{}])):
      assert repr(name) in rows.problem(row | {name: value})
    for name in ("doc", "budget", "mechanism"):
      assert repr(name) in rows.problem(row | {name: {}})


def test_more_contexts_than_seeds_keep_apart_are_refused(checkpoint, tmp_path):
  with user_error("config.contexts", "100000"):
    run(tiny_run.config(checkpoint, contexts=(10**12,)), tmp_path / "run")
