"""Rows to cells, comparisons, the printed table and results_*.json."""

import dataclasses
import gzip
import json
import math
import os
import pathlib
import re

import numpy as np
import pandas
import pytest

from tests import synthetic_rows
from tests.errors import user_error
from tests.synthetic_rows import failed, row
from tttjax.errors import UserError
from tttjax.report import rows_to_cells
from tttjax.report.comparing import comparisons, statement
from tttjax.report.declining import decline, decline_statement
from tttjax.report.labels import short_names, strategy_label
from tttjax.report.number_texts import plus_minus
from tttjax.report.printed import table
from tttjax.report.results_file import results
from tttjax.report.run_names import run_labels
from tttjax.report.runs import Run, read_rows, read_run
from tttjax.report.statistics import clustered_mean, paired_difference

STRATEGIES = ("in_context", "thinking", "qttt", "qttt_other_context", "self_consistency(n=8)")


def run_of(rows, label="", **config):
  directory = pathlib.Path("runs") / (label or "x")
  return Run(label, directory, config, list(rows), "2025-01-02T03-04-05")


@pytest.fixture(scope="module")
def grid():
  """(rows, cells) of two tasks, two seeds, three lengths."""
  rows = synthetic_rows.rows(STRATEGIES, (256, 512, 1024), contexts=5, seeds=(0, 1))
  rows += synthetic_rows.rows(
    STRATEGIES[:3], (256, 512), contexts=3, task="transaction_log", model="/models/Qwen3-4B"
  )
  return rows, rows_to_cells.cells([run_of(rows)])


def test_cells_are_the_groups_that_pandas_makes(grid):
  rows, cells = grid
  frame = pandas.DataFrame(rows)
  expected = frame.groupby(["task", "model", "length", "strategy"]).agg(
    acc=("acc", "mean"), n=("acc", "size"), flops=("flops", "mean"), tokens=("tokens", "mean")
  )
  assert len(cells) == len(expected)
  for cell in cells:
    of = expected.loc[cell.task, cell.model, cell.length, cell.strategy]
    assert (cell.score.mean, cell.score.n) == (pytest.approx(of["acc"]), of["n"])
    assert cell.flops == pytest.approx(of["flops"])
    assert cell.tokens == pytest.approx(of["tokens"])


def test_cells_are_ordered_by_task_then_length_with_in_context_first(grid):
  _, cells = grid
  places = [(cell.task, cell.length) for cell in cells]
  assert places == sorted(places, key=lambda p: (p[0] != "bank_log", p[1]))
  assert all(
    cell.strategy == "in_context"
    for i, cell in enumerate(cells)
    if i == 0 or places[i] != places[i - 1]
  )


def test_contexts_of_different_seeds_are_different_clusters(grid):
  rows, cells = grid
  own = [r for r in rows if (r["task"], r["strategy"], r["length"]) == ("bank_log", "qttt", 512)]
  cell = next(c for c in cells if (c.task, c.strategy, c.length) == ("bank_log", "qttt", 512))
  assert cell.score.clusters == 10
  assert cell.score == clustered_mean(
    [r["acc"] for r in own], [(r["seed"], r["context"]) for r in own]
  )


def test_gain_pairs_the_same_questions(grid):
  rows, cells = grid
  of = lambda name: {
    (r["seed"], r["context"], r["question"]): r["acc"]
    for r in rows
    if (r["task"], r["strategy"], r["length"]) == ("bank_log", name, 1024)
  }
  treatment = of("qttt")
  cell = next(c for c in cells if (c.task, c.strategy, c.length) == ("bank_log", "qttt", 1024))
  expected = paired_difference(treatment, of("in_context"), {key: key[:2] for key in treatment})
  assert cell.gain.gain.mean == pytest.approx(expected.gain.mean)
  assert cell.gain.gain.stderr == pytest.approx(expected.gain.stderr)
  assert cell.gain.p_value == expected.p_value


def test_questions_with_metrics_of_their_own_have_one_score_and_its_gain():
  """The gain is that of the score beside it, and each metric is of the questions that have it."""
  rows = []
  for name, values in {"in_context": (0.2, 1.0, 0.0), "qttt": (0.6, 1.0, 1.0)}.items():
    for i, (metric, value) in enumerate(zip(("f1", "acc", "acc"), values)):
      own = row(name, context=i, metrics=[metric])
      del own["acc"]
      rows.append(own | {metric: value})
  rows[-1]["error"], rows[-1]["acc"] = "too long", 0.0
  base, cell = rows_to_cells.cells([run_of(rows)])
  assert list(cell.metrics) == ["mixed", "f1", "acc"] and cell.metric == "mixed"
  assert (cell.score.mean, cell.score.n) == (pytest.approx(1.6 / 3), 3)
  assert (base.score.mean, base.metrics["f1"].mean) == (pytest.approx(0.4), 0.2)
  assert (cell.metrics["f1"].n, cell.metrics["f1"].mean) == (1, 0.6)
  assert (cell.metrics["acc"].n, cell.metrics["acc"].mean) == (2, 0.5)
  assert cell.gain.gain.mean == pytest.approx(cell.score.mean - base.score.mean)
  (compared,) = comparisons([run_of(rows)])
  assert compared.metric == "mixed"
  written = results([run_of(rows)], [base, cell], [compared], [], "now")["results"]
  assert written["bank_log_qttt_256"]["mixed_gain,none"] == pytest.approx(0.4 / 3)
  assert "f1_gain,none" not in written["bank_log_qttt_256"]


def test_in_context_itself_has_no_gain_but_its_variants_do():
  rows = synthetic_rows.rows(("in_context", "in_context(stretch=4096)"), (256,))
  plain, stretched = rows_to_cells.cells([run_of(rows)])
  assert plain.gain is None
  assert stretched.gain.gain.n == plain.score.n


def test_the_baseline_is_the_runs_own_else_that_of_any_run():
  zero, one = row(acc=0.0), row(acc=1.0)
  runs = [
    run_of([one], "a"),
    run_of([zero, row("qttt", acc=1.0)], "b"),
    run_of([row("thinking", acc=0.0)], "c"),
  ]
  gains = {(c.run, c.strategy): c.gain for c in rows_to_cells.cells(runs)}
  assert gains["b", "qttt"].gain.mean == 1.0  # over its own 0, not a's 1
  assert gains["c", "thinking"].gain.n == 1


def test_contexts_of_other_runs_with_another_text_are_no_baseline():
  other = row(acc=1.0)
  other["doc"] = {**other["doc"], "context_sha256": "another"}
  cells = rows_to_cells.cells([run_of([other], "a"), run_of([row("qttt")], "b")])
  assert next(c for c in cells if c.strategy == "qttt").gain is None


def test_mcnemar_only_where_every_context_has_one_question():
  single = [
    row(s, context=c, acc=float(s == "qttt")) for s in ("in_context", "qttt") for c in range(6)
  ]
  cell = rows_to_cells.cells([run_of(single)])[1]
  assert cell.mcnemar_p == pytest.approx(2 / 2**6)
  double = single + [dict(r, question=1) for r in single]
  assert rows_to_cells.cells([run_of(double)])[1].mcnemar_p is None


def test_failed_examples_count_as_wrong_and_cost_nothing():
  rows = [
    row("thinking", context=0, flops=100, tokens=10, metrics=["acc", "id_acc"], id_acc=1.0),
    failed("out of memory", strategy="thinking", context=1),
  ]
  (cell,) = rows_to_cells.cells([run_of(rows)])
  assert (cell.score.mean, cell.failures) == (0.5, 1)
  assert cell.metrics["id_acc"].mean == 0.5
  assert (cell.flops, cell.tokens) == (100, 10)


def test_a_cell_whose_examples_all_failed_has_no_costs():
  (cell,) = rows_to_cells.cells([run_of([failed("too long", context=c) for c in range(3)])])
  assert (cell.score.mean, cell.failures, cell.seconds) == (0.0, 3, {})
  assert math.isnan(cell.flops)
  assert "in-context" in table([cell])


def test_the_primary_metric_is_the_first_whatever_its_name():
  rows = [
    row(s, context=c, metrics=["f1", "em"], f1=f1, em=0.0)
    for s, f1 in (("in_context", 0.25), ("qttt", 0.5))
    for c in range(3)
  ]
  for one in rows:
    del one["acc"]
  run = run_of(rows)
  base, cell = rows_to_cells.cells([run])
  assert (cell.metric, cell.score.mean, cell.gain.gain.mean) == ("f1", 0.5, 0.25)
  assert cell.mcnemar_p is None  # not right or wrong
  (comparison,) = comparisons([run])
  assert comparison.metric == "f1" and comparison.difference.gain.mean == 0.25
  head = next(line for line in table([base, cell]).splitlines() if "strategy" in line)
  assert " f1 " in head and " acc " not in head
  scores = results([run], [base, cell], [comparison], [], "now")["results"]
  assert [own["f1,none"] for own in scores.values()] == [0.25, 0.5]


def test_only_what_is_listed_as_a_metric_is_a_score():
  rows = [row(rouge1="text"), row(context=1, metrics=["acc", "rouge1"], rouge1=0.5)]
  (cell,) = rows_to_cells.cells([run_of(rows)])
  assert (cell.metrics["rouge1"].mean, cell.metrics["rouge1"].n) == (0.5, 1)
  parts = {"rouge1": "a", "rouge2": "b", "rougeL": "c"}
  assert not rows_to_cells.cells([run_of([row(**parts)])])[0].corpus


def test_slices_split_the_primary_metric():
  kinds = ["CALC_ERROR", "LOST_UPDATE", "CALC_ERROR", "CALC_ERROR"]
  rows = [
    row(context=c, acc=float(c < 2), slices={"anomaly": kind, "all": "same"})
    for c, kind in enumerate(kinds)
  ]
  (cell,) = rows_to_cells.cells([run_of(rows)])
  assert cell.slices["anomaly"]["CALC_ERROR"] == clustered_mean([1.0, 0.0, 0.0], [0, 2, 3])
  assert cell.slices["anomaly"]["LOST_UPDATE"].mean == 1.0
  text = table([cell])
  assert "acc by anomaly" in text and "acc by all" not in text
  listed = results([run_of(rows)], [cell], [], [], "now")["cells"][0]["slices"]
  assert listed["anomaly"]["CALC_ERROR"]["n"] == 3


@pytest.mark.parametrize(
  "chances, mean, shown", [((0.2, 0.3), 0.25, True), ((0.001, 0.002), 0.0015, False)]
)
def test_chance_is_a_mean_and_a_column_where_it_matters(chances, mean, shown):
  rows = [row(context=c, chance=chance) for c, chance in enumerate(chances)]
  (cell,) = rows_to_cells.cells([run_of(rows)])
  assert cell.chance == pytest.approx(mean)
  assert ("chance" in table([cell])) == shown


def test_chance_that_one_question_does_not_state_is_unknown():
  (cell,) = rows_to_cells.cells([run_of([row(chance=0.5), row(context=1, chance=None)])])
  assert math.isnan(cell.chance)


def test_truncated_outputs_and_unclosed_thoughts_are_counted():
  ended = lambda answer, thought: {"answer": answer, "thought": thought}
  rows = [
    row("thinking", context=0, endings=[ended("limit", "forced"), ended("stop", "closed")]),
    row("thinking", context=1, endings=[ended("stop", "forced"), ended("stop", "open")]),
    failed("x", strategy="thinking", context=2),
  ]
  (cell,) = rows_to_cells.cells([run_of(rows)])
  assert (cell.truncated, cell.unclosed) == (0.25, 0.75)
  line = next(one for one in table([cell]).splitlines() if one.startswith("   256"))
  assert line.split()[-3:] == ["0.25", "0.75", "1"]
  (plain,) = rows_to_cells.cells([run_of([row()])])
  assert plain.truncated == 0 and math.isnan(plain.unclosed)
  assert "cut" not in table([plain]) and "unclosed" not in table([plain])


def test_seconds_that_were_not_measured_are_blank_and_say_why():
  (shared,) = rows_to_cells.cells([run_of([row(seconds={})])])
  assert shared.seconds == {} and math.isnan(shared.total_seconds) and not shared.compiling
  assert "No seconds: the programs were those of another length." in table([shared])
  (compiled,) = rows_to_cells.cells([run_of([row(compiled=True)])])
  assert compiled.seconds == {} and compiled.compiling
  assert "No seconds: every context compiled something." in table([compiled])


def test_seconds_are_medians_over_contexts_that_compiled_nothing():
  spent = lambda s: {"prefill": s, "adapt": 0.0, "generate": 2 * s}
  rows = [
    row(context=c, question=q, seconds=spent(s), compiled=c == 0)
    for c, s in enumerate((50.0, 1.0, 2.0, 9.0))
    for q in range(2)
  ]
  (cell,) = rows_to_cells.cells([run_of(rows)])
  assert cell.seconds == {"prefill": 2.0, "adapt": 0.0, "generate": 4.0}
  assert not cell.compiling
  assert rows_to_cells.cells([run_of(rows[:2])])[0].compiling


def test_mechanism_is_summarised_over_the_rows_that_have_it():
  measured = {
    "mass": 0.2,
    "margin": -1.0,
    "lead": 2.0,
    "mass_by_layer": [0.1, 0.3],
    "during": "reference",
    "heldout_before": 2.0,
    "heldout_after": 1.5,
  }
  rows = [
    row("qttt", context=0, mechanism=measured),
    row("qttt", context=1, mechanism={**measured, "mass": 0.4, "mass_by_layer": [0.3, 0.5]}),
    failed("x", strategy="qttt", context=2),
  ]
  (cell,) = rows_to_cells.cells([run_of(rows)])
  assert cell.mechanism["mass"].mean == pytest.approx(0.3)
  assert cell.mechanism["heldout_change"].mean == pytest.approx(-0.5)
  assert cell.mass_by_layer == pytest.approx((0.2, 0.4))


@pytest.mark.parametrize("during, compared", [("reference", True), ("output", False)])
def test_mechanism_is_compared_only_where_the_same_text_was_measured(during, compared):
  measured = {
    "mass": 0.2,
    "margin": -1.0,
    "lead": 2.0,
    "mass_by_layer": [0.2],
    "during": "reference",
    "heldout_before": None,
    "heldout_after": None,
  }
  rows = [
    row(strategy, context=c, mechanism={**measured, "mass": mass, "during": text})
    for strategy, mass, text in (("in_context", 0.2, "reference"), ("qttt", 0.3, during))
    for c in range(3)
  ]
  cell = rows_to_cells.cells([run_of(rows)])[1]
  assert ("mass" in cell.mechanism_gain) == compared and cell.mechanism["mass"].mean > 0.2


def test_a_corpus_metric_is_bootstrapped_where_its_parts_are_present(rng):
  rows = [
    row(s, context=c, metrics=["acc", "rouge1", "rouge2", "rougeL"], rouge1=a, rouge2=b, rougeL=l)
    for s in ("in_context", "qttt")
    for c, (a, b, l) in enumerate(rng.uniform(size=(8, 3)))
  ]
  base, cell = rows_to_cells.cells([run_of(rows)])
  means = [np.mean([r[n] for r in rows[8:]]) for n in ("rouge1", "rouge2", "rougeL")]
  assert cell.corpus["rouge"].mean == pytest.approx(np.prod(means) ** (1 / 3))
  difference = cell.corpus["rouge"].mean - base.corpus["rouge"].mean
  assert cell.corpus_gain["rouge"].gain.mean == pytest.approx(difference)
  listed = results([run_of(rows)], [base, cell], [], [], "now")["cells"][1]["corpus_differences"]
  assert listed["rouge"]["smallest_p_value"] == 2**-7 <= listed["rouge"]["p_value"]
  printed = table([base, cell])
  line = next(line for line in printed.splitlines() if line.startswith("   256  qTTT"))
  gain = plus_minus(cell.corpus_gain["rouge"].gain, sign="+")
  assert "rouge gain" in printed and gain in line
  assert not rows_to_cells.cells([run_of([row()])])[0].corpus


@pytest.mark.parametrize(
  "spec, label",
  [
    ("in_context", "in-context"),
    ("qttt(learning_rate=0.0003)", "qTTT, learning rate 0.0003"),
    ("qttt_other_context", "qTTT on another context (control)"),
    ("qttt(steps=1, spans=oracle)", "qTTT, 1 step, oracle spans (control)"),
    ("self_consistency(n=16)", "self-consistency, 16 samples"),
    ("beam(n=8)", "beam search, 8 beams"),
    ("thinking(rope=off)", "thinking, RoPE off"),
    ("in_context(stretch=8192)", "in-context, stretched to 8192"),
    ("new_idea(some_option=x)", "new idea, some option x"),
  ],
)
def test_labels(spec, label):
  assert strategy_label(spec) == label


def test_short_names_tell_paths_apart():
  assert short_names(["/a/run", "/b/run"]) == ["a/run", "b/run"]
  assert short_names(["/a/one", "/a/two", "/a/one"]) == ["one", "two", "one"]


@pytest.mark.parametrize(
  "configs, expected",
  [
    ([{"ttt.steps": 8}], [""]),
    (
      [
        {"ttt.steps": 8, "ttt.span": 32, "seeds": [0]},
        {"ttt.steps": 32, "ttt.span": 32, "seeds": [0]},
      ],
      ["steps=8", "steps=32"],
    ),
    (
      [
        {"a.rate": 1e-3, "b.rate": 0, "git_hash": "x"},
        {"a.rate": 3e-4, "b.rate": 0, "git_hash": "y"},
      ],
      ["a.rate=0.001", "a.rate=0.0003"],
    ),
    ([{"lengths": [256, 512]}, {"lengths": [256]}], ["lengths=256 512", "lengths=256"]),
    (
      [{"tasks": ["a"], "smoke": True}, {"tasks": ["b"], "smoke": False}],
      ["smoke=True", "smoke=False"],
    ),
    ([{"examples_sha256": "x"}, {"examples_sha256": "y"}], ["a/run", "b/run"]),
    ([{"n": 1}, {"n": 1}, {"n": 2}], ["n=1 (a/run)", "n=1 (b/run)", "n=2"]),
  ],
)
def test_runs_are_named_by_what_differs(configs, expected):
  paths = ["/runs/a/run", "/runs/b/run", "/runs/c/run"][: len(configs)]
  assert run_labels(configs, paths) == expected


_LONG = "qttt(steps=8, span=64, learning_rate=0.0003)"
_STOP = "Thinking budget used up, so the answer must come now: "


@pytest.mark.parametrize(
  "configs, expected",
  [
    # Marks of thoughts are no paths, models are.
    ([{"thinking.end": "</think>"}, {"thinking.end": ""}], ["end=</think>", "end=''"]),
    ([{"models": ["/m/a/x"]}, {"models": ["/m/b/x"]}], ["models=a/x", "models=b/x"]),
    ([{"unit": "a\nb"}, {"unit": "c"}], ["unit=a\\nb", "unit=c"]),
    # What a run grew by names no choice.
    ([{"n": 1, "grown": [{}]}, {"n": 2}], ["n=1", "n=2"]),
    # Long texts are shown from where they differ, as far as tells them apart.
    (
      [{"forced_stop": _STOP + "</think>"}, {"forced_stop": _STOP + "Final:"}],
      ["forced_stop=...</think>", "forced_stop=...Final:"],
    ),
    (
      [{"end": "x" * 50 + "1"}, {"end": "x" * 50 + "2"}],
      ["end=" + "x" * 50 + "1", "end=" + "x" * 50 + "2"],
    ),
    ([{"rate": 0.12345678}, {"rate": 0.12345679}], ["rate=0.12345678", "rate=0.12345679"]),
    (
      [{"seeds": list(range(20))}, {"seeds": list(range(1, 21))}],
      ["seeds=... +0", "seeds=... +20"],
    ),
    # In another order, so that no item tells them apart.
    (
      [{"strategies": [_LONG, "qttt"]}, {"strategies": ["qttt", _LONG]}],
      [f"strategies={_LONG[:30]}...", f"strategies=qttt {_LONG[:25]}..."],
    ),
    # Fields that tables show help where the others do not tell all runs apart.
    (
      [
        {"n": 1, "lengths": [256], "tasks": ["a"]},
        {"n": 1, "lengths": [512], "tasks": ["b"]},
        {"n": 2, "lengths": [512], "tasks": ["b"]},
      ],
      ["n=1, lengths=256", "n=1, lengths=512", "n=2, lengths=512"],
    ),
    # Of many fields those that are needed.
    (
      [
        {"steps": n, **{f"a_rather_long_name_{i}": n // 2 for i in range(9)}, "last": n % 2}
        for n in range(3)
      ],
      [f"steps={n}, a_rather_long_name_8={n // 2}, last={n % 2}" for n in range(3)],
    ),
    ([{"x": [1]}, {"x": 1}], ["x=1 (a/run)", "x=1 (b/run)"]),
  ],
)
def test_names_of_runs_are_short_and_no_directories(configs, expected):
  paths = ["/runs/a/run", "/runs/b/run", "/runs/c/run"][: len(configs)]
  assert run_labels(configs, paths) == expected


def test_a_sweep_over_long_strategies_shows_no_hash():
  configs = [
    {"strategies": ["in_context", f"qttt(steps={n}, learning_rate={rate}, spans=oracle)"]}
    | {"ttt.span": span, "thinking.forced_stop": _STOP + str(span)}
    for n in (8, 32)
    for rate in (1e-3, 3e-4)
    for span in (32, 64)
  ]
  labels = run_labels(configs, [f"/runs/x/strategies-{i:08x}" for i in range(8)])
  assert len(set(labels)) == 8
  assert all("00" not in label.replace("0.00", "") for label in labels)
  assert max(map(len, labels)) <= 100
  assert labels[0].startswith("span=32, ") and "steps=8, learning_rate=0.001" in labels[0]


def test_of_long_lists_what_not_all_runs_have_is_named():
  common = ["in_context", "thinking", "qttt_other_context"]
  configs = [{"strategies": common}, {"strategies": [*common, "qttt(steps=8)"]}]
  assert run_labels(configs, ["/a", "/b"]) == [
    "strategies=the common ones",
    "strategies=... +qttt(steps=8)",
  ]


# Reading.


_DOCS = pathlib.Path(__file__).parents[1] / "docs"
_HONEST = _DOCS / "honest"


@pytest.mark.parametrize("samples", sorted(_DOCS.rglob("samples_*")), ids=lambda p: p.parent.name)
def test_the_runs_in_the_documentation_are_read(samples):
  run = read_run(samples.parent)
  assert run.rows and run.config["tasks"] and run.stamp in samples.name


def test_the_rows_of_version_0_1_are_read():
  cells = rows_to_cells.cells([run_of(read_rows(_HONEST / "learning_rates"))])
  assert {cell.family for cell in cells} == {"in_context", "qttt"}
  fast = next(cell for cell in cells if cell.options == {"learning_rate": "0.01"})
  assert (fast.family, fast.label) == ("qttt", "qTTT, learning rate 0.01")
  assert fast.slices == {} and math.isnan(fast.chance) and math.isnan(fast.truncated)


def test_the_rows_in_the_documentation_are_read():
  cells = rows_to_cells.cells([run_of(read_rows(_HONEST))])
  assert {cell.family for cell in cells} >= {"in_context", "thinking", "qttt", "log_temperature"}
  oracle = next(cell for cell in cells if cell.options == {"spans": "oracle"})
  assert oracle.label == "qTTT, oracle spans (control)"
  assert 0 < oracle.chance < 0.1 and oracle.truncated >= 0


def test_a_half_written_last_line_is_left_out(tmp_path):
  path = synthetic_rows.write(tmp_path, [row(), row(question=1)])
  file = next(path.glob("samples_*"))
  file.write_bytes(file.read_bytes() + b'{"acc": 1.0, "str\xe2')
  assert len(read_rows(path)) == 2


@pytest.mark.parametrize("broken", ["not json", "[1]", '{"acc": 1.0}'])
def test_a_broken_line_is_named(tmp_path, broken):
  path = synthetic_rows.write(tmp_path, [row()])
  file = next(path.glob("samples_*"))
  file.write_text(file.read_text() + broken + "\n")
  with pytest.raises(UserError, match=r"samples_.*line 2 is not a row"):
    read_rows(path)


_BROKEN_FIELDS = {
  "length": [0, -1, "256", 10**400, True],
  "flops": [10**400, 1.5],
  "amortised_flops": [10**400, -1.0, "many"],
  "error": ["", 5],
  "doc.context_tokens": ["many", 0, 1.5, None],
  "doc.context_head": [5],
  "doc.question": [["?"]],
  "doc.evidence": [5, [1], [[1]], [[1, "2"]], [[3, 2]], [[-1, 2]], [[0, 10**400]]],
  "doc.evidence_text": [5, [1], [{"before": "", "text": ""}], [{"before": 1}], None],
  "budget.flops": ["x", 10**400, -1],
  "budget.learning_rate": ["x", None, 1e300],
  "budget.steps": [1.5],
  "budget.samples": [None],
  "mechanism.mass": ["x", 17, -0.1],
  "mechanism.margin": ["x", [1.0], 1e300],
  "mechanism.lead": [True],
  "mechanism.heldout_before": ["x"],
  "mechanism.heldout_after": [{}],
  "mechanism.reference_logprob": ["x"],
  "mechanism.mass_by_layer": [5, ["x"], [[0.1], [0.2, 0.3]], [0.1, 17]],
  "mechanism.during": [None],
  "adaptation.loss": [None, 1, ["x"], [1e300]],
  "adaptation.start": [["x"], [-1], 3],
}


@pytest.mark.parametrize(
  "field, value", [(field, value) for field, some in _BROKEN_FIELDS.items() for value in some]
)
def test_a_value_that_no_run_writes_is_named_with_its_line(tmp_path, field, value):
  (broken,) = (r for r in synthetic_rows.rows(("qttt",), (256,), contexts=1) if r["question"])
  outer, _, inner = field.partition(".")
  broken[outer] = {**broken[outer], inner: value} if inner else value
  path = synthetic_rows.write(tmp_path, [row(), broken])
  with user_error(path / "samples_", "line 2 is not a row", f"field '{field}", "delete that line"):
    read_rows(path)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[" * 100_000])
def test_a_line_that_is_not_json_is_named(tmp_path, text):
  path = synthetic_rows.write(tmp_path, [row(), row(question=1, other="HERE")])
  file = next(path.glob("samples_*"))
  file.write_text(file.read_text().replace('"HERE"', text))
  with user_error(file, "line 2 is not a row", "not JSON"):
    read_rows(path)


def test_a_row_without_a_budget_must_say_why(tmp_path):
  path = synthetic_rows.write(tmp_path, [failed("too long"), row(question=1, budget=None)])
  with user_error("line 2", "field 'budget'", "without an error"):
    read_rows(path)


def test_all_rows_of_a_model_have_its_layers(tmp_path):
  rows = synthetic_rows.rows(("in_context",), (256,), contexts=1, layers=4)
  other = synthetic_rows.rows(("in_context",), (512,), contexts=1, layers=3)
  path = synthetic_rows.write(tmp_path, rows + other)
  with user_error("line 3", "field 'mechanism.mass_by_layer' has 3 layers, 4 in the rows above"):
    read_rows(path)
  synthetic_rows.write(tmp_path, rows + [{**r, "model": "another"} for r in other])
  assert len(read_rows(path)) == 4


def test_a_repeated_row_is_refused(tmp_path):
  with pytest.raises(UserError, match="line 2 repeats a row.*strategy=in_context"):
    read_rows(synthetic_rows.write(tmp_path, [row(), row()]))


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda p: None, "no samples_"),
    (lambda p: p.rmdir(), "no such directory"),
    (lambda p: (p / "samples_x.jsonl").write_text(""), "no rows yet"),
    (lambda p: (p / "samples_x.jsonl").mkdir(), "cannot be read"),
    (lambda p: os.mkfifo(p / "samples_x.jsonl"), "not a regular file"),
    (lambda p: os.mkfifo(p / "samples_x.jsonl.gz"), "not a regular file"),
  ],
)
def test_a_directory_without_rows_is_refused(tmp_path, make, message):
  (tmp_path / "run").mkdir()
  make(tmp_path / "run")
  with pytest.raises(UserError, match=message):
    read_rows(tmp_path / "run")


def test_every_damage_to_a_compressed_file_is_one_line(tmp_path):
  path = synthetic_rows.write(tmp_path, [row(context=c) for c in range(3)])
  file = next(path.glob("samples_*"))
  whole = gzip.compress(file.read_bytes(), mtime=0)
  file.unlink()
  packed = path / "samples_x.jsonl.gz"
  packed.write_bytes(whole)
  assert len(read_rows(path)) == 3
  flipped = (whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in range(10, len(whole)))
  for broken in (whole[:1], whole[: len(whole) // 2], whole[:-1], b"text", *flipped):
    packed.write_bytes(broken)
    with user_error(packed, "cannot be decompressed", "restore it"):
      read_rows(path)


# Comparisons over all lengths, and their words.


def test_comparisons_are_with_in_context_the_control_and_thinking(grid):
  rows, _ = grid
  own = [c for c in comparisons([run_of(rows)]) if c.task == "bank_log"]
  assert [(c.treatment, c.baseline) for c in own] == [
    ("thinking", "in_context"),
    ("qttt", "in_context"),
    ("qttt", "qttt_other_context"),
    ("qttt", "thinking"),
    ("qttt_other_context", "in_context"),
    ("self_consistency(n=8)", "in_context"),
  ]
  assert all(c.lengths == (256, 512, 1024) for c in own)


def test_a_context_at_all_its_lengths_is_one_cluster(grid):
  rows, _ = grid
  comparison = comparisons([run_of(rows)])[0]
  assert comparison.difference.gain.clusters == 10
  assert comparison.difference.gain.n == 10 * 2 * 3


def test_a_sweep_that_repeats_its_baselines_counts_them_once():
  rows = synthetic_rows.rows(("in_context", "thinking"), (256,))
  assert len(comparisons([run_of(rows, "a"), run_of(rows, "b")])) == 1


def differing(wins, losses, ties, contexts_per=1):
  rows = []
  outcomes = [(1.0, 0.0)] * wins + [(0.0, 1.0)] * losses + [(1.0, 1.0)] * ties
  for context, (treatment, base) in enumerate(outcomes):
    rows += [row(context=context, acc=base), row("qttt", context=context, acc=treatment)]
  return comparisons([run_of(rows)])[0]


@pytest.mark.parametrize(
  "outcomes, number, words",
  [
    ((20, 1, 0), 1, "higher by more than chance explains"),
    ((1, 20, 0), 1, "lower by more than chance explains"),
    ((5, 4, 20), 1, "not distinguishable from noise"),
    ((3, 0, 0), 1, "too few contexts to tell"),
    ((7, 0, 0), 9, "so few contexts can hardly pass the correction for 9 comparisons"),
  ],
)
def test_the_words_follow_from_the_numbers(outcomes, number, words):
  comparison = differing(*outcomes)
  corrected = dataclasses.replace(
    comparison, holm_p=min(1.0, number * comparison.difference.p_value)
  )
  assert words in statement(corrected, number)


def test_one_context_supports_no_statement():
  assert "nothing follows" in statement(differing(1, 0, 0), 1)


def test_the_decline_is_that_of_questions_asked_at_both_ends():
  rows = [row(length=256, context=c, acc=1.0) for c in range(8)]
  rows += [row(length=1024, context=c, acc=float(c < 2)) for c in range(7)]
  (fall,) = decline([run_of(rows)])
  assert (fall.short, fall.long) == (1.0, pytest.approx(2 / 7))
  assert fall.difference.gain.n == 7
  words = decline_statement(fall, "tokens")
  assert "no decline beyond noise" in words or "falls with length" in words
  assert (fall.difference.p_value <= 0.05) == ("falls with length" in words)


# The table and the results file.


def test_the_table_is_aligned_ascii_and_not_too_wide(grid):
  text = table(grid[1])
  text.encode("ascii")
  assert max(map(len, text.splitlines())) <= 140
  head = next(line for line in text.splitlines() if line.lstrip().startswith("length"))
  column = head.index("strategy")
  lines = [line for line in text.splitlines() if re.match(r" *(256|512|1024) ", line)]
  assert len(lines) == len(grid[1])
  assert all(line[column - 1] == " " and line[column] != " " for line in lines)


def test_the_table_has_every_name_in_full():
  long = "qttt(steps=8, span=64, learning_rate=0.0003, span_kv=recomputed, question=before)"
  run = "steps=8, span=64, learning_rate=0.0003, lengths=256 512"
  text = table(rows_to_cells.cells([run_of([row(long)], run), run_of([row()], "x")]))
  words = text.replace("\n", " ")
  for word in [*strategy_label(long).split(), *run.split()]:
    assert word in words
  assert ".." not in text


def test_results_have_the_harness_shape_and_strict_json(grid):
  rows, cells = grid
  value = results([run_of(rows)], cells, comparisons([run_of(rows)]), [], "now")
  value = json.loads(json.dumps(value, allow_nan=False))
  names = set(value["results"])
  assert len(names) == len(cells)
  for part in ("configs", "n-samples", "versions", "n-shot", "higher_is_better"):
    assert set(value[part]) == names
  first = value["results"][value["cells"][0]["name"]]
  assert first["acc,none"] == value["cells"][0]["score"]
  assert first["acc_stderr,none"] == value["cells"][0]["stderr"]


def test_task_names_are_safe_and_unique():
  # Both strategies reduce to the same letters and digits.
  rows = synthetic_rows.rows(("qttt(a=1)", "qttt(a=1, )", "in_context"), (256,))
  cells = rows_to_cells.cells([run_of(rows)])
  names = list(results([run_of(rows)], cells, [], [], "now")["results"])
  assert len(names) == 3
  assert all(re.fullmatch(r"[A-Za-z0-9_]+", name) for name in names)


def test_a_cell_of_the_results_has_its_paired_difference(grid):
  rows, cells = grid
  value = results([run_of(rows)], cells, [], [], "now")
  by = {(c["task"], c["strategy"], c["length"]): c for c in value["cells"]}
  cell = by["bank_log", "qttt", 1024]
  assert {"mean", "stderr", "interval", "p_value", "n", "contexts", "mcnemar_p"} == set(
    cell["difference_to_reference"]
  )
  assert set(cell["seconds"]) == {"prefill", "adapt", "generate"}
  assert cell["budget"]["steps"] == 32
  assert by["bank_log", "in_context", 256]["difference_to_reference"] is None
