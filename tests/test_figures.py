"""Which figures are drawn for which data, and what is in them."""

import pathlib
import warnings

from matplotlib import pyplot as plt
from matplotlib import text
import numpy as np
from PIL import Image
import pytest

from tests import synthetic_rows
from tttjax.report import figures, rows_to_cells
from tttjax.report.figures import axes as panels
from tttjax.report.figures import costs, evidence, lengths, series, sweeps
from tttjax.report.runs import Run


def cells_of(*groups):
  return rows_to_cells.cells(
    [
      Run(f"run{i}" if len(groups) > 1 else "", pathlib.Path("x"), {}, rows, "s")
      for i, rows in enumerate(groups)
    ]
  )


def scheme_of(cells):
  return series.scheme(cells, "tokens", series.looks_of(cells))


@pytest.fixture
def drawn(monkeypatch):
  """The matplotlib figures that are saved, kept instead of written."""
  kept = []
  for module in (sweeps, costs, lengths, evidence):
    monkeypatch.setattr(module, "save", lambda figure, path: kept.append(figure))
  yield kept
  plt.close("all")


def names(cells, tmp_path):
  made = figures.draw(cells, tmp_path, {cell.task: "tokens" for cell in cells})
  paths = [figure.path for group in made.values() for figure in group]
  assert all(path.is_file() for path in paths)
  return {path.stem for path in paths}


def test_a_plain_run_gets_the_figures_it_has_data_for(tmp_path):
  rows = synthetic_rows.rows(("in_context", "qttt"), (256, 512))
  assert names(cells_of(rows), tmp_path) == {
    "accuracy",
    "cost",
    "mechanism",
    "mass_by_layer",
    "latency",
  }


@pytest.mark.parametrize("contexts, kinds", [(2, {"accuracy", "latency"}), (1, {"accuracy"})])
def test_one_cell_gets_seconds_where_a_context_compiled_nothing(tmp_path, contexts, kinds):
  rows = synthetic_rows.rows(("qttt",), (256,), contexts=contexts, mechanism=False)
  assert [r["compiled"] for r in rows] == [r["context"] == 0 for r in rows]
  assert names(cells_of(rows), tmp_path) == kinds


def test_rows_that_all_failed_are_drawn(tmp_path):
  rows = [synthetic_rows.failed("x", context=c) for c in range(2)]
  assert names(cells_of(rows), tmp_path) == {"accuracy"}


def test_a_sweep_gets_budgets_grid_and_learning_rates(tmp_path):
  strategies = ("in_context", "thinking", "qttt")
  runs = [
    synthetic_rows.rows(
      strategies, (256,), contexts=3, mechanism=False, steps=n, span=k, thinking_tokens=2 * n * k
    )
    for n in (8, 32)
    for k in (16, 64)
  ]
  runs.append(
    synthetic_rows.rows(
      strategies, (256,), contexts=3, mechanism=False, steps=8, span=16, learning_rate=1e-2
    )
  )
  assert names(cells_of(*runs), tmp_path) >= {"budgets", "grid", "learning_rate"}


def test_several_tasks_have_their_own_files(tmp_path):
  rows = synthetic_rows.rows(("in_context",), (256,), contexts=2, mechanism=False)
  rows += synthetic_rows.rows(
    ("in_context",), (256,), contexts=2, mechanism=False, task="code_bugs(kind=x)"
  )
  assert names(cells_of(rows), tmp_path) == {
    f"{kind}_{task}_embedded"
    for kind in ("accuracy", "latency")
    for task in ("bank_log", "code_bugs_kind_x")
  }


def test_files_are_small_pngs_that_are_not_blank(tmp_path):
  rows = synthetic_rows.rows(("in_context", "qttt"), (256, 512), mechanism=False)
  cells = cells_of(rows)
  lengths.accuracy(cells, tmp_path / "a.png", scheme_of(cells))
  with Image.open(tmp_path / "a.png") as image:
    assert image.format == "PNG" and min(image.size) > 300
    assert np.asarray(image.convert("L")).std() > 5
  assert (tmp_path / "a.png").stat().st_size < 150_000


def test_accuracy_draws_the_cells_with_one_standard_error(drawn):
  cells = cells_of(synthetic_rows.rows(("in_context", "qttt"), (256, 512, 1024)))
  lengths.accuracy(cells, pathlib.Path("unused"), scheme_of(cells))
  left, right = drawn[0].axes
  own = [c for c in cells if c.strategy == "qttt"]
  bars = next(c for c in left.containers if c.get_label() == "qTTT")
  assert bars.lines[0].get_ydata() == pytest.approx([c.score.mean for c in own])
  halves = [np.ptp(segment[:, 1]) / 2 for segment in bars.lines[2][0].get_segments()]
  assert halves == pytest.approx([c.score.stderr for c in own])
  gains = next(c for c in right.containers if c.get_label() == "qTTT")
  assert gains.lines[0].get_ydata() == pytest.approx([c.gain.gain.mean for c in own])


def test_many_strategies_are_cut_to_a_readable_number_and_drawn_apart(drawn):
  many = ["in_context", "thinking", "qttt"] + [f"qttt(steps={n})" for n in range(1, 13)]
  cells = cells_of(synthetic_rows.rows(many, (256, 512), contexts=3, mechanism=False))
  figure = lengths.accuracy(cells, pathlib.Path("unused"), scheme_of(cells))
  assert len(drawn[0].axes[0].containers) == series.MAX_SERIES
  assert "7 more strategies" in figure.caption
  assert lengths.variants(cells, pathlib.Path("unused"), scheme_of(cells))
  assert all(len(axes.containers) <= series.MAX_SERIES for axes in drawn[1].axes)


@pytest.mark.parametrize("draw", [evidence.mechanism, evidence.mass_by_layer, costs.cost])
def test_a_legend_of_many_names_leaves_the_panels_their_room(drawn, draw):
  """With one length there is little width: the figure grows, no name lies over a line."""
  many = ["in_context", "log_temperature(trained=8192)", "qttt_other_context(spans=oracle)"]
  many += [f"qttt_other_context(question=before, steps={n})" for n in range(1, 6)]
  cells = cells_of(synthetic_rows.rows(many, (512,), contexts=2))
  draw(cells, pathlib.Path("unused"), scheme_of(cells))
  (figure,) = drawn
  with warnings.catch_warnings():
    warnings.simplefilter("error")  # matplotlib warns where panels collapse
    figure.draw_without_rendering()
  (names,) = figure.legends
  for panel in figure.axes:
    assert not names.get_window_extent().overlaps(panel.get_tightbbox())
    assert panel.get_window_extent().height > 1.5 * figure.dpi


def test_series_have_different_looks_and_in_context_is_black():
  many = [
    "in_context",
    "thinking",
    "qttt",
    "qttt_other_context",
    "self_consistency(n=8)",
    "self_consistency(n=16)",
    "qttt(steps=2)",
    "beam(n=8)",
  ]
  cells = cells_of(synthetic_rows.rows(many, (256,), contexts=2))
  looks = [one.look for one in scheme_of(cells).series(cells)]
  assert len({(look.colour, look.marker) for look in looks}) == len(many)
  assert looks[0].colour == "#000000"


def test_a_run_that_repeats_anothers_results_is_drawn_once():
  rows = synthetic_rows.rows(("in_context",), (256,))
  cells = cells_of(rows, rows)
  assert len(scheme_of(cells).series(cells)) == 1


def test_a_context_of_one_token_needs_no_lead(tmp_path):
  rows = synthetic_rows.rows(("in_context", "qttt"), (256,), contexts=2)
  for row in rows:
    row["doc"]["context_tokens"] = 1
  assert "mechanism" in names(cells_of(rows), tmp_path)


def test_labels_at_the_lines_ends_do_not_overlap():
  figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
  axes.set_ylim(0, 1)
  heights = (0.0, 0.01, 0.02, 0.02, 0.9, 1.0)
  panels.end_labels(axes, [panels.End(1.0, y, f"label {y}", "black", "o") for y in heights])
  figure.draw_without_rendering()
  # Text's own extent: an annotation's holds its arrow too.
  boxes = sorted((text.Text.get_window_extent(t) for t in axes.texts), key=lambda box: box.y0)
  assert all(low.y1 <= high.y0 + 1 for low, high in zip(boxes, boxes[1:]))
  plt.close(figure)


def test_a_leader_begins_at_its_own_lines_end():
  figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
  axes.set(xlim=(0, 10), ylim=(0, 2))
  ends = [panels.End(8.0, 0.5, "a", "red", "o"), panels.End(9.0, 1.6, "b", "blue", "s")]
  panels.end_labels(axes, ends)
  starts = {
    line.get_color(): (line.get_xdata()[0], line.get_ydata()[0])
    for line in axes.lines
    if len(line.get_xdata()) > 1
  }
  assert starts["red"] == pytest.approx((0.8, 0.25)) and starts["blue"] == pytest.approx((0.9, 0.8))
  plt.close(figure)


def test_names_of_lines_that_end_at_one_place_share_a_bracket():
  figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
  axes.set(xlim=(0, 10), ylim=(0, 1))
  panels.end_labels(axes, [panels.End(9.0, 0.0, name, "red", "o") for name in "abcdef"])
  lines = [line for line in axes.lines if len(line.get_xdata()) > 1]
  assert len(lines) == 2  # one leader and the bracket, no fan
  plt.close(figure)


def test_chance_is_a_dotted_line_where_it_is_not_next_to_0(drawn):
  rows = synthetic_rows.rows(("in_context", "qttt"), (256, 512), contexts=2, mechanism=False)
  captions = []
  for chance in (0.25, 0.001):
    cells = cells_of([{**r, "chance": chance} for r in rows])
    captions.append(lengths.accuracy(cells, pathlib.Path("unused"), scheme_of(cells)).caption)
  dotted = [
    [line for line in figure.axes[0].lines if line.get_linestyle() == ":"] for figure in drawn
  ]
  assert [set(line.get_ydata()) for line in dotted[0]] == [{0.25}]
  assert not dotted[1]
  assert ["dotted" in caption for caption in captions] == [True, False]


def test_dollars_in_names_are_dollars(tmp_path):
  rows = synthetic_rows.rows(("in_context", "qttt"), (256, 512), contexts=2)
  models = (r"cost$\frac$", "$x$")  # the first is no mathematics, the second would be
  every = [{**row, "model": model} for model in models for row in rows]
  drawn = names(cells_of(every), tmp_path)
  assert {"accuracy_bank_log_cost_frac", "accuracy_bank_log_x"} <= drawn


def test_axes_and_titles_name_the_primary_metric(drawn):
  rows = synthetic_rows.rows(("in_context", "qttt"), (256, 512), mechanism=False)
  cells = cells_of([{**r, "metrics": ["luck"], "luck": r["acc"]} for r in rows])
  figure = lengths.accuracy(cells, pathlib.Path("unused"), scheme_of(cells))
  assert drawn[0].axes[0].get_ylabel() == "luck"
  assert figure.title == "Luck against context length"


@pytest.mark.parametrize("number, missing", [(6, []), (8, []), (10, [1024, 32768])])
def test_costs_draw_up_to_eight_lengths_and_name_those_left_out(drawn, number, missing):
  every = [2**i for i in range(8, 8 + number)]
  cells = cells_of(synthetic_rows.rows(("in_context", "qttt"), every, mechanism=False))
  figure = costs.cost(cells, pathlib.Path("unused"), scheme_of(cells))
  titles = {axes.get_title() for axes in drawn[0].axes if axes.get_visible()}
  assert titles == {f"{n:,} tokens" for n in every if n not in missing}
  said = f"Not drawn, but in the tables: {', '.join(f'{n:,}' for n in missing)}."
  assert (said in figure.caption) == bool(missing)


def test_points_without_seconds_are_left_out_and_said_to_be(drawn):
  rows = synthetic_rows.rows(("in_context", "qttt"), (256, 512), mechanism=False)
  shared = [{**r, "seconds": {}} if r["length"] == 512 else r for r in rows]
  cells = cells_of(shared)
  for kind in (costs.cost, costs.latency):
    caption = kind(cells, pathlib.Path("unused"), scheme_of(cells)).caption
    assert "the programs were those of another length" in caption
  flops, seconds = ([] for _ in range(2))
  for axes in drawn[0].axes:
    if axes.get_visible():
      (seconds if "seconds" in axes.get_xlabel() else flops).append(axes.get_title())
  assert flops == ["256 tokens", "512 tokens"] and seconds == ["256 tokens"]


def test_a_strategy_looks_the_same_in_every_task_of_a_report():
  rows = synthetic_rows.rows(("in_context", "thinking", "qttt"), (256,), contexts=2)
  rows += synthetic_rows.rows(("in_context", "qttt"), (256,), contexts=2, task="code_bugs")
  cells = cells_of(rows)
  looks = series.looks_of(cells)
  found = {
    task: series.scheme(own, "tokens", looks).series(own)[-1]
    for task in ("bank_log", "code_bugs")
    for own in [[c for c in cells if c.task == task]]
  }
  assert {one.label for one in found.values()} == {"qTTT"}
  assert found["bank_log"].look == found["code_bugs"].look


def test_controls_are_dashed():
  names = ("in_context", "qttt", "qttt_other_context", "log_temperature")
  looks = series.looks_of(cells_of(synthetic_rows.rows(names, (256,), contexts=2)))
  assert {name: look.line for (name, _), look in looks.items()} == dict(
    zip(names, ("-", "-", "--", "--"))
  )


def test_what_is_drawn_where_there_are_many_has_a_colour_of_its_own():
  many = [f"qttt(steps={n})" for n in range(1, 9)] + ["beam(n=8)", "thinking", "in_context", "qttt"]
  cells = cells_of(synthetic_rows.rows(many, (256,), contexts=2))
  kept = series.chosen(scheme_of(cells).series(cells))
  assert len({one.look.colour for one in kept}) == len(kept) == series.MAX_SERIES
  assert {"in-context", "thinking", "qTTT", "beam search, 8 beams"} <= {one.label for one in kept}


def test_ticks_of_close_lengths_are_thinned():
  figure, axes = plt.subplots(1, 4, figsize=(10, 3))
  scheme = series.Scheme("tokens", "accuracy", {})
  panels.length_axis(axes[0], [1000, 1050, 1100, 1150, 9000], scheme)
  shown = [label.get_text() for label in axes[0].get_xticklabels()]
  assert shown[0] == "9,000" and len(shown) < 5
  plt.close(figure)


def test_the_pareto_front_is_what_no_other_point_beats():
  points = [(1, 0.5), (2, 0.4), (2, 0.7), (3, 0.7), (4, 0.9), (1, 0.2)]
  beaten = lambda p: any(
    q[0] <= p[0] and q[1] >= p[1] and (q[0] < p[0] or q[1] > p[1]) for q in points
  )
  assert costs.pareto_front(points) == sorted(p for p in points if not beaten(p))


def test_the_lead_panel_shows_what_masses_need(drawn):
  cells = cells_of(synthetic_rows.rows(("in_context",), (256, 1024)))
  evidence.mechanism(cells, pathlib.Path("unused"), scheme_of(cells))
  axes = next(a for a in drawn[0].axes if "lead" in a.get_ylabel())
  tokens = np.array([253, 1021])  # the contexts' mean numbers of tokens
  needed = {eps: np.log((tokens - 1) * (1 - eps) / eps) for eps in (0.5, 0.1)}
  lines = [line.get_ydata() for line in axes.lines if line.get_linestyle() == "-."]
  assert lines[0] == pytest.approx(needed[0.5]) and lines[1] == pytest.approx(needed[0.1])
  margin = next(a for a in drawn[0].axes if "margin" in a.get_ylabel())
  assert any(list(line.get_ydata()) == [0, 0] for line in margin.lines)


def test_budgets_that_are_matched_context_by_context_are_one_budget(drawn):
  runs = [
    synthetic_rows.rows(("thinking",), (256,), contexts=2, thinking_tokens=m) for m in (1000, 1004)
  ]
  cells = cells_of(*runs)
  assert sweeps.budgets(cells, pathlib.Path("unused"), scheme_of(cells)) is None


def test_bars_of_latency_are_the_phases_seconds(drawn):
  cells = cells_of(synthetic_rows.rows(("in_context", "qttt"), (256,)))
  costs.latency(cells, pathlib.Path("unused"), scheme_of(cells))
  widths = [bar.get_width() for bar in drawn[0].axes[0].patches]
  expected = [cell.seconds[p] for cell in cells for p in ("prefill", "adapt", "generate")]
  assert widths == pytest.approx(expected)
