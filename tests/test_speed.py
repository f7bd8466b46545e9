"""The speed benchmarks: every contender runs on a tiny model, and what they say is right."""

import dataclasses
import importlib.util
import json

import pytest

from benchmarks import limits, machine, parity, peers, results, run, subjects
from benchmarks.alternating import Timing, alternate, ratio
from benchmarks.limits import Limit
from benchmarks.results import Row
from benchmarks.suites import SUITES, Suite, suite
from tttjax import flops

TINY = Suite(
  2, 32, 4, 2, 16, 48, 97, "float32", (256, 384), span=16, steps=2, new_tokens=3, rounds=1
)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
  return subjects.make(TINY, tmp_path_factory.mktemp("speed") / "checkpoint")


@pytest.fixture(scope="module")
def torch_model(subject):
  return peers.load(subject.directory, TINY, "cpu")


def test_both_frameworks_compute_the_same_before_they_are_timed(subject, torch_model):
  errors = parity.check(TINY, subject, torch_model)
  assert set(errors) == {"logits", "loss"} and max(errors.values()) < 1e-4
  with pytest.raises(SystemExit, match="differ from torch's"):
    other = subjects.make(dataclasses.replace(TINY, mlp=64), subject.directory.parent / "other")
    parity.check(TINY, other, torch_model)


def test_every_phase_has_its_contenders(subject, torch_model, monkeypatch, tmp_path):
  monkeypatch.setattr(run, "_static", lambda *_: lambda: 1.0)  # compiles for a minute
  peaks = machine.Peaks(1e12, 1e9).best(machine.Peaks(1e11, 1e11))
  assert peaks == machine.Peaks(1e12, 1e11)
  rows = [
    run._bound(row, TINY, subject.model.config, peaks)
    for row in run.measured(TINY, subject, torch_model)
  ]
  assert all((row.limit is None) == (row.phase == "contexts, batched") for row in rows)
  found = {(row.phase, row.length): set(row.timings) for row in rows}
  for length in TINY.lengths:
    assert found["prefill", length] == {"tttjax", "transformers"}
    assert {"tttjax", "torch loop"} <= found["step", length]
    assert found["decode", length] == {"tttjax", "transformers", "compiled, static"}
    assert found["decode, shared", length] == {"tttjax", "transformers"}
    assert found["score", length] == {"tttjax", "transformers"}
  assert found["contexts, batched", 256] == {"tttjax", "one by one"}
  if importlib.util.find_spec("peft"):
    assert "peft, rereading" in found["step", 256]
  else:
    (row,) = (r for r in rows if (r.phase, r.length) == ("step", 256))
    assert "No module named 'peft'" in row.missing["peft, rereading"]
  assert all(weight.requires_grad is False for weight in torch_model.parameters())
  table = results.table(rows)
  assert table.count("\n") == len(rows) + 1 and "| prefill | 256 |" in table
  value = json.loads(results.as_json(rows, {"date": "today"}))
  assert value["rows"][0]["seconds"].keys() == {"tttjax", "transformers"}
  results.plot(rows, tmp_path / "plot.png")
  assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_what_a_contender_that_does_not_run_says_is_kept(subject, torch_model, monkeypatch):
  def refuse():
    raise RuntimeError("no\n compiler")

  monkeypatch.setattr(run, "_static", lambda *_: refuse)
  one = dataclasses.replace(TINY, lengths=(256,))
  rows = list(run.measured(one, subject, torch_model))
  (row,) = (row for row in rows if row.phase == "decode")
  assert row.missing == {"compiled, static": "RuntimeError: no compiler"}
  assert set(row.timings) == {"tttjax", "transformers"}


def test_contenders_take_turns_and_ratios_are_of_rounds():
  order = []
  actions = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
  timings = alternate(actions, 3)
  assert "".join(order) == "ab" + "ab" + "ba" + "ab"
  assert timings["a"].rounds == (3, 6, 7) and timings["a"].seconds == 6
  assert ratio(Timing((1.0, 2.0, 4.0)), Timing((2.0, 2.0, 12.0))) == 2.0


def test_a_share_is_the_limit_over_what_was_measured():
  row = Row("step", 256, 2, {"tttjax": Timing((4.0,)), "x": Timing((6.0,))}, Limit(1.0, "compute"))
  assert row.share == 0.25 and row.ratios == {"x": 1.5}
  line = results.table([row]).splitlines()[-1]
  assert line == "| step | 256 | 2,000 | 1.50x | 0.25 | compute |"


def test_limits_are_the_exact_counts_over_the_peaks(subject):
  config = subject.model.config
  found = limits.limits(TINY, config, 256, machine.Peaks(1e6, 1e30))
  assert found["prefill"].seconds == pytest.approx(flops.prefill(config, 256) / 1e6)
  step = flops.ttt_step(config, 256, 16, 256 - 16 - 1)
  assert found["step"].seconds == pytest.approx(step / 1e6)
  # Decoding reads every weight and the whole cache for each token, samples together.
  found = limits.limits(TINY, config, 256, machine.Peaks(1e30, 1e6))
  attention = 2 * (4 + 2) * 16 * 32
  weights = 2 * (attention + 3 * 32 * 48) + 32 * 97
  cache = 2 * 2 * 2 * 16 * 256
  assert found["decode"].seconds == pytest.approx(3 * 4 * (weights + cache) / 1e6)
  assert found["decode, shared"] == found["decode"]


def test_the_quick_suites_are_parts_of_the_whole_ones():
  for name, whole in SUITES.items():
    quick = suite(name, True)
    assert set(quick.lengths) <= set(whole.lengths) and quick.rounds < whole.rounds
    assert (quick.layers, quick.hidden, quick.vocab) == (whole.layers, whole.hidden, whole.vocab)
