"""`tttjax.report.build` and the page it writes."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests import synthetic_rows
from tests.errors import user_error
from tests.html_page import read
from tests.synthetic_rows import failed
from tttjax import report
from tttjax.errors import UserError
from tttjax.experiment.run_directory import prepare_workdir
from tttjax.report import __main__ as report_command

STRATEGIES = ("in_context", "qttt", "qttt_other_context")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(directory, page) of a run with a failed example and a fallback."""
  directory = tmp_path_factory.mktemp("runs") / "one"
  rows = synthetic_rows.rows(STRATEGIES, (256, 512), contexts=6)
  fails = ("qttt", 512, 4)
  rows = [row for row in rows if (row["strategy"], row["length"], row["context"]) != fails]
  rows += [
    failed("RuntimeError: out of <memory>", strategy="qttt", length=512, context=4, question=q)
    for q in range(2)
  ]
  rows[-3]["fallback"] = "loss was not finite at step 3"
  synthetic_rows.write(directory, rows)
  return directory, report.build([directory], directory)


def test_outputs_are_named_after_the_samples(run):
  directory, page = run
  assert page == directory / "report.html"
  assert (directory / "results_2025-01-02T03-04-05.json").is_file()
  assert (directory / "figures" / "accuracy.png").is_file()
  assert not list(directory.glob(".*"))  # nothing temporary is left


def test_the_page_needs_nothing_outside_of_itself(run):
  page = read(run[1])
  assert all(attrs["src"].startswith("data:image/png") for attrs in page.named("img"))
  assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
  assert "src" not in page.named("script")[0]
  anchors = {link[1:] for link in page.links if link.startswith("#")}
  assert anchors <= {attrs.get("id") for _, attrs in page.tags}


def test_links_lead_to_the_rows_the_results_and_every_figure(run):
  directory, path = run
  linked = {link for link in read(path).links if not link.startswith(("data:", "#"))}
  figures = {f"figures/{figure.name}" for figure in directory.glob("figures/*.png")}
  stamp = "2025-01-02T03-04-05"
  assert linked == figures | {f"samples_{stamp}.jsonl", f"results_{stamp}.json", "config.json"}


def test_the_page_shows_the_numbers_of_the_results(run):
  directory, path = run
  page = read(path)
  cells = json.loads(next(directory.glob("results_*.json")).read_text())["cells"]
  for cell in cells:
    assert f"{cell['score']:.3f} ± {cell['stderr']:.3f}" in page.text


def test_the_page_opens_with_the_result_and_the_main_figure(run):
  page = read(run[1])
  assert page.text.index("The accuracy of in-context") < page.text.index("Accuracy against context")
  assert page.text.index("Accuracy against context") < page.text.index("p, corrected")
  assert page.text.index("p, corrected") < page.text.index("3 comparisons made")


def test_strategies_describe_themselves(run):
  assert "gains is general adaptation" in read(run[1]).text


def test_failures_and_fallbacks_are_listed_and_escaped(run):
  text = run[1].read_text(encoding="utf-8")
  assert "RuntimeError: out of &lt;memory&gt;" in text
  assert "<memory>" not in text
  assert "loss was not finite at step 3" in text


def test_examples_begin_with_the_context_that_failed(run):
  text = read(run[1]).text
  examples = text[text.index("bank log, embedded, 512 tokens: 3 of 6 contexts") :]
  assert re.search(r"Seed 0, context (\d)", examples)[1] == "4"


def test_examples_show_text_as_text(run):
  text = run[1].read_text(encoding="utf-8")
  assert "You audit &lt;bank&gt; logs &amp; nothing else." in text
  assert "<b>00</b>" not in text


def test_examples_draw_loss_and_spans_those_of_another_context_apart(run):
  page = read(run[1])
  kinds = [attrs["class"] for attrs in page.named("svg")]
  others = page.text.count("in another context")
  assert kinds.count("curve") == len(page.named("polyline")) > 0
  assert others > 0 and kinds.count("strip") == kinds.count("curve") - others


def test_building_again_changes_nothing(run, capsys):
  directory, page = run
  before = page.read_bytes()
  assert report_command.main([str(directory)]) == 0
  assert page.read_bytes() == before
  assert "in-context" in capsys.readouterr().out


def test_runs_are_compared_side_by_side(tmp_path, monkeypatch):
  for steps in (8, 32):
    rows = synthetic_rows.rows(STRATEGIES[:2], (256,), contexts=6, steps=steps)
    synthetic_rows.write(tmp_path / f"steps{steps}", rows, **{"ttt.steps": steps})
  monkeypatch.chdir(tmp_path)
  assert report_command.main(["steps8", "steps32"]) == 0
  text = read(tmp_path / "comparison" / "report.html").text
  assert "differ in 1 field" in text
  assert "steps=8" in text and "steps=32" in text
  value = json.loads(next((tmp_path / "comparison").glob("results_*.json")).read_text())
  assert {cell["run"] for cell in value["cells"]} == {"steps=8", "steps=32"}


def test_figures_that_a_report_does_not_draw_any_more_go_and_foreign_files_stay(tmp_path):
  rows = synthetic_rows.rows(("in_context", "qttt"), (256,), contexts=3)
  run = synthetic_rows.write(tmp_path / "run", rows)
  report.build([run], run)
  (run / "figures" / "mine.png").write_bytes(b"")
  next(run.glob("samples_*")).unlink()
  synthetic_rows.write(run, [{**r, "mechanism": None} for r in rows])
  report.build([run], run)
  left = {path.name for path in (run / "figures").iterdir()}
  assert left == {"accuracy.png", "cost.png", "latency.png", "mine.png"}


@pytest.mark.parametrize("figures", [5, "accuracy.png", [5, ["a"]], ["..", "", "a\0b", "mine.txt"]])
def test_results_of_something_else_remove_no_figure(tmp_path, figures):
  run = synthetic_rows.write(tmp_path / "run", [synthetic_rows.row()])
  (run / "figures").mkdir()
  (run / "figures" / "mine.txt").write_bytes(b"")
  (run / "results_x.json").write_text(json.dumps({"figures": figures}))
  os.mkfifo(run / "results_y.json")
  (run / "results_z.json").write_text("[" * 100_000)
  report.build([run], run)
  assert (run / "figures" / "mine.txt").exists()


@pytest.mark.parametrize(
  "field, value",
  [
    ("contexts", "x"),
    ("contexts", [1.5]),
    ("contexts", []),
    ("lengths", 256),
    ("seeds", ["a"]),
    ("models", [5]),
    ("tasks", {}),
    ("strategies", [["qttt"]]),
    ("questions", "2"),
    ("unit", 5),
    ("unit", "parsecs"),
    ("lengths", [1 << 31]),
    ("smoke", "no"),
    ("git_hash", 5),
    ("grown", 5),
    ("grown", ["x"]),
  ],
)
def test_field_of_the_config_that_no_run_writes_is_named(tmp_path, field, value):
  synthetic_rows.write(tmp_path, [synthetic_rows.row()], **{field: value})
  with user_error(tmp_path / "config.json", f"field '{field}'", "put back what the run wrote"):
    report.build([tmp_path], tmp_path)
  with user_error(tmp_path / "config.json", f"field '{field}'"):
    prepare_workdir(tmp_path, {})


@pytest.mark.parametrize(
  "change, field",
  [
    ({"family": "in_context", "options": {}}, "fields 'family' and 'options'"),
    ({"options": {"steps": "3"}}, "fields 'family' and 'options'"),
    ({"task_options": {"kind": "amount"}}, "fields 'task_family' and 'task_options'"),
    ({"metrics": ["type_acc", "acc"], "type_acc": 1.0}, "field 'metrics'"),
    ({"target": "something else"}, "field 'target'"),
    ({"doc.context_sha256": "0" * 64}, "field 'doc.context_sha256'"),
    ({"length": 1 << 31}, "field 'length'"),
    ({"model": "\ud800"}, "field 'model'"),
  ],
)
def test_a_row_that_contradicts_itself_or_the_rows_above_is_named(tmp_path, change, field):
  rows = synthetic_rows.rows(("in_context", "qttt"), (256,), contexts=2)
  for name, value in change.items():
    *parents, leaf = name.split(".")
    target = rows[-1]
    for parent in parents:
      target = target[parent]
    target[leaf] = value
  synthetic_rows.write(tmp_path, rows)
  with user_error(f"line {len(rows)} is not a row", field):
    report.build([tmp_path], tmp_path)


def test_a_name_that_stands_twice_in_a_row_is_refused(tmp_path):
  run = synthetic_rows.write(tmp_path, synthetic_rows.rows(("in_context",), (256,), contexts=2))
  path = next(run.glob("samples_*.jsonl"))
  path.write_text(path.read_text().replace('"acc": ', '"acc": 0.0, "acc": ', 1))
  with user_error("line 1 is not a row", "not JSON"):
    report.build([tmp_path], tmp_path)


def test_a_name_that_the_terminal_cannot_write_is_no_error(tmp_path):
  rows = synthetic_rows.rows(("in_context", "qttt"), (256,), contexts=2, model="modèle")
  synthetic_rows.write(tmp_path, rows)
  done = subprocess.run(
    [sys.executable, "-m", "tttjax.report", str(tmp_path)],
    capture_output=True,
    env={**os.environ, "PYTHONIOENCODING": "ascii"},
    check=False,
  )
  assert done.returncode == 0 and b"mod\\xe8le" in done.stdout, done.stderr


def test_config_that_is_no_file_is_named(tmp_path):
  synthetic_rows.write(tmp_path, [synthetic_rows.row()])
  (tmp_path / "config.json").unlink()
  with user_error(tmp_path / "config.json", "No such file"):
    report.build([tmp_path], tmp_path)
  os.mkfifo(tmp_path / "config.json")
  with user_error(tmp_path / "config.json", "not a regular file"):
    report.build([tmp_path], tmp_path)
  with user_error(tmp_path / "config.json", "not a regular file"):
    prepare_workdir(tmp_path, {})


def test_native_lengths_have_the_tasks_unit(tmp_path):
  rows = synthetic_rows.rows(("in_context",), (25, 50), contexts=2, mechanism=False)
  synthetic_rows.write(tmp_path, rows, unit="native")
  report.build([tmp_path], tmp_path)
  assert "50 operations" in read(tmp_path / "report.html").text


def test_a_smoke_run_says_that_it_proves_nothing(tmp_path):
  rows = synthetic_rows.rows(("in_context",), (256,), contexts=1, mechanism=False)
  synthetic_rows.write(tmp_path, rows, smoke=True)
  report.build([tmp_path], tmp_path)
  assert "A smoke run" in read(tmp_path / "report.html").text


def test_thousands_of_rows_stay_a_small_page(tmp_path):
  strategies = ["in_context", "thinking"] + [f"qttt(steps={n})" for n in range(1, 11)]
  rows = synthetic_rows.rows(strategies, (256, 512, 1024), contexts=40, questions=4)
  for row in rows:
    row["resps"] = [["long thoughts " * 400]]
  assert len(rows) > 5000
  synthetic_rows.write(tmp_path, rows)
  report.build([tmp_path], tmp_path)
  assert (tmp_path / "report.html").stat().st_size < 5_000_000


@pytest.mark.parametrize(
  "arguments, message", [(["nowhere"], "no such directory"), (["empty"], "no samples_")]
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
  tmp_path, capsys, monkeypatch, arguments, message
):
  (tmp_path / "empty").mkdir()
  monkeypatch.chdir(tmp_path)
  assert report_command.main(arguments) == 2
  error = capsys.readouterr().err
  assert message in error and error.count("\n") == 1


def test_a_run_given_twice_is_refused(tmp_path):
  synthetic_rows.write(tmp_path, synthetic_rows.rows(("in_context",), (256,), contexts=2))
  with pytest.raises(UserError, match="give each run once"):
    report.build([tmp_path, tmp_path], tmp_path)
