"""The benchmarks' configs end to end on made data, and the files that their sites read."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import pandas
import pytest

from tests import benchmark_files, benchmark_runs, smollm2, synthetic_rows, tiny_run
from tests.errors import user_error
from tttjax import report
from tttjax.experiment import config as run_config
from tttjax.experiment import run
from tttjax.experiment.work_units import Place, Work
from tttjax.report.runs import Run
from tttjax.report.submissions import write_submissions
from tttjax.tasks.benchmarks.longbench_v2 import LongBenchV2
from tttjax.tasks.benchmarks.zero_scrolls import ZeroScrolls

# What a line of the benchmark's own results has.
_RESULT = {"_id", "domain", "sub_domain", "difficulty", "length", "question", "answer", "context"}
_RESULT |= {"choice_A", "choice_B", "choice_C", "choice_D", "response", "pred", "judge"}
ROOT = pathlib.Path(__file__).resolve().parent.parent


def rows_of(folder):
  (path,) = folder.glob("samples_*.jsonl")
  return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check_longbench(folder, questions):
  """As the benchmark's own script reads its results."""
  for path in folder.rglob("longbench_v2.jsonl"):
    results = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({result["_id"] for result in results}) == len(results) == questions
    for result in results:
      assert result["difficulty"] in ("easy", "hard")
      assert result["length"] in ("short", "medium", "long")
      assert result["pred"] in (*"ABCD", None) and isinstance(result["response"], str)
      assert result["judge"] is (result["pred"] == result["answer"])
      assert {"domain", "sub_domain", "question", "choice_A", "choice_D"} <= set(result)
      assert result["context"].startswith("Book 0. ") and len(result["context"]) == 1000
  return len(list(folder.rglob("longbench_v2.jsonl")))


def check_zero_scrolls(folder, tasks, asked=("q0", "q1", "q2")):
  """As the benchmark's verification does: every id once, every prediction a text."""
  found = list(folder.rglob("zero_scrolls_predictions.csv"))
  for path in found:
    table = pandas.read_csv(path, dtype=object, keep_default_na=False, na_values=["!@#$%^&*()"])
    assert list(table.columns) == ["Task", "ID", "Prediction"]
    with open(path, encoding="utf-8", newline="") as file:
      assert len(list(csv.reader(file))) == len(table) + 1
    assert set(table.Task) == set(tasks)
    for task in tasks:
      ids = {row["id"] for row in benchmark_files.zero_scrolls_rows(task)} & set(asked)
      own = table[table.Task == task]
      predictions = json.loads((path.parent / f"preds_{task}.json").read_text(encoding="utf-8"))
      assert set(own.ID) == set(predictions) == ids and len(own) == len(ids)
      assert dict(zip(own.ID, own.Prediction)) == predictions
  return len(found)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
  folder = tmp_path_factory.mktemp("embedded")
  benchmark_runs.main("embedded", folder, ())
  return folder


def test_every_config_runs_on_the_embedded_model(embedded):
  for name, strategies in (("longbench_v2", 4), ("zero_scrolls", 4), ("own", 3)):
    rows = rows_of(embedded / name)
    assert not any(row["error"] for row in rows) and (embedded / name / "report.html").is_file()
    assert len({row["strategy"] for row in rows}) == strategies
    assert all(0 < row["doc"]["kept"] <= 1 for row in rows)
    assert any(row["doc"]["kept"] < 1 for row in rows)
    assert all(row["mechanism"] is None for row in rows)  # where the evidence is, no one knows
    config = json.loads((embedded / name / "config.json").read_text(encoding="utf-8"))
    assert all(len(digest) == 64 for digest in config["data_sha256"].values())
    assert "data" not in config  # what is in it, not where it lies


def test_slices_and_their_gains_are_in_the_results(embedded):
  (path,) = (embedded / "longbench_v2").glob("results_*.json")
  cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
  qttt = next(cell for cell in cells if cell["strategy"] == "qttt")
  assert set(qttt["slices"]) == {"domain", "difficulty", "length_class", "tokens"}
  assert set(qttt["slice_differences"]["difficulty"]) == {"easy", "hard"}
  assert 0 < qttt["kept"] < 1


def test_the_mean_over_tasks_is_in_the_results(embedded):
  (path,) = (embedded / "zero_scrolls").glob("results_*.json")
  value = json.loads(path.read_text(encoding="utf-8"))
  averages = {a["strategy"]: a for a in value["averages"]}
  assert averages["qttt"]["tasks"] == 10 and averages["in_context"]["gain"] is None
  for strategy, average in averages.items():
    cells = [cell for cell in value["cells"] if cell["strategy"] == strategy]
    scores = [c["corpus_metrics"].get("rouge", {"mean": c["score"]})["mean"] for c in cells]
    assert average["score"]["mean"] == pytest.approx(sum(scores) / 10)


def test_files_are_those_that_sites_and_scripts_read(embedded):
  folder = embedded / "zero_scrolls"
  assert check_longbench(embedded / "longbench_v2", 2) == 4
  assert check_zero_scrolls(folder, benchmark_files.ZERO_SCROLLS, ("q0", "q2")) == 4


def test_every_config_runs_on_a_pretrained_model(tmp_path):
  smollm2.skip_without()
  command = [sys.executable, "-m", "tests.benchmark_runs", "smollm2", str(tmp_path)]
  # A process with XLA's own flags: most of it is computing, which those of the tests slow down.
  environment = os.environ | {"XLA_FLAGS": ""}
  subprocess.run([*command, "in_context"], cwd=ROOT, env=environment, check=True)
  for name in benchmark_runs.CONFIGS:
    assert {row["model"] for row in rows_of(tmp_path / name)} == {"smollm2"}
  assert check_longbench(tmp_path / "longbench_v2", 2) == 1


# What a run does with documents, on a tiny model. -------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  directory = tmp_path_factory.mktemp("tiny")
  tiny_run.write(directory)
  return directory


def of_documents(checkpoint, data, **values):
  config = tiny_run.config(checkpoint, strategies=("in_context", "qttt"), **values)
  config.data, config.lengths = str(data), (400,)
  return config


def test_each_question_of_a_document_has_its_own_longest_answer(checkpoint, tmp_path):
  line = {"context": benchmark_files.document(0), "question": "Who?", "answers": ["Lom"]}
  rows = [line | {"id": n, "metric": "exact", "max_new_tokens": n} for n in (3, 9, 200)]
  data = tmp_path / "mine.jsonl"
  data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
  config = of_documents(checkpoint, data, tasks=("own",), contexts=(1,), questions=3)
  config.strategies = ("in_context", "self_consistency(n=2, temperature=1.0)")
  config.sampling.max_new_tokens, config.thinking.budget = 0, 48
  rows = run(config, tmp_path / "run").rows
  plain = [row["tokens"] for row in rows if row["strategy"] == "in_context"]
  assert plain == [3, 9, 200]
  for row, most in zip(rows[3:], (3, 9, 200), strict=True):
    assert 0 < row["tokens"] - 2 * row["thinking_tokens"] <= 2 * most
  config.questions = 1  # the others are no part of the first one's answer
  assert run(config, tmp_path / "alone").rows[0]["resps"] == rows[0]["resps"]


def test_a_smoke_run_shortens_only_longer_answers(checkpoint, tmp_path):
  config = of_documents(checkpoint, benchmark_files.own(tmp_path / "mine.jsonl"), tasks=("own",))
  config.smoke, config.questions = True, 4
  plan = run_config.check(config)
  work = Work(plan, "embedded")
  limits = {
    question.max_new_tokens
    for place in (Place("own", 400, 0, context) for context in range(2))
    for question in work.unit(place).case.example.questions
  }
  assert limits == {20, 32}


def test_outputs_without_a_public_reference_are_kept_and_not_scored(checkpoint, tmp_path, capsys):
  data = benchmark_files.zero_scrolls(tmp_path / "zips", ("qasper", "qmsum"))
  tasks = ("zero_scrolls(task=qasper, split=test)", "zero_scrolls(task=qmsum)")
  done = run(of_documents(checkpoint, data, tasks=tasks), tmp_path / "run")
  assert {tuple(row["metrics"]) for row in done.rows} == {(), ("rouge1", "rouge2", "rougeL")}
  assert all(row["target"] == "" for row in done.rows if not row["metrics"])
  report.build([done.workdir], done.workdir)
  printed = capsys.readouterr()
  assert "6 predictions have no public reference: not scored" in printed.err
  assert "6 more predictions have no public reference" in (done.workdir / "report.html").read_text(
    encoding="utf-8"
  )
  assert "answered, not scored" in printed.err or "split=test" in printed.err
  # Those of one split are one submission.
  test, validation = (
    [
      path
      for path in (done.workdir / "submissions").iterdir()
      if ("_split_test" in path.name) is of
    ]
    for of in (True, False)
  )
  assert len(test) == len(validation) == 2
  assert all(check_zero_scrolls(path, ("qasper",)) == 1 for path in test)
  assert all(check_zero_scrolls(path, ("qmsum",)) == 1 for path in validation)


def test_where_nothing_is_scored_the_files_are_written_all_the_same(checkpoint, tmp_path, capsys):
  data = benchmark_files.zero_scrolls(tmp_path / "zips", ("qasper",))
  tasks = ("zero_scrolls(task=qasper, split=test)",)
  done = run(of_documents(checkpoint, data, tasks=tasks), tmp_path / "run")
  assert report.build([done.workdir], done.workdir) is None
  assert "not scored" in capsys.readouterr().err
  assert check_zero_scrolls(done.workdir, ("qasper",)) == 2
  assert not any("split" in path.name for path in (done.workdir / "submissions").iterdir())


def test_every_set_of_options_has_a_folder_of_its_own(tmp_path):
  """Also of ids in any number, and of values that the names of files do not tell apart."""
  options = ("", "cot=on", "ids=a b", "ids='a,b'", f"ids={'66' * 400}")
  rows = [
    synthetic_rows.row(task=f"longbench_v2({own})" if own else "longbench_v2") for own in options
  ]
  for number, row in enumerate(rows):
    row["doc"] |= {"question_key": f"{number}", "source": {}}
  folders = write_submissions([Run("", tmp_path, {}, rows, "1")], tmp_path)
  assert len(set(folders)) == 5 and all(len(folder.name) < 200 for folder in folders)
  assert folders[0].name == "embedded_in_context_256_seed0"
  assert folders[1].name == "embedded_in_context_256_seed0_cot_on"
  read = [json.loads((folder / "longbench_v2.jsonl").read_text()) for folder in folders]
  assert [result["_id"] for result in read] == [f"{number}" for number in range(5)]


def test_the_same_data_may_lie_elsewhere_and_other_data_is_refused(checkpoint, tmp_path):
  data = benchmark_files.longbench_v2(tmp_path / "data.json")
  first = run(of_documents(checkpoint, data, tasks=("longbench_v2",)), tmp_path / "run")
  (tmp_path / "new").mkdir()
  moved = data.rename(tmp_path / "new" / "data.json")
  again = run(of_documents(checkpoint, moved, tasks=("longbench_v2",)), tmp_path / "run")
  assert again.rows == first.rows
  benchmark_files.longbench_v2(moved, number=4)
  with user_error("another configuration", "data_sha256"):
    run(of_documents(checkpoint, moved, tasks=("longbench_v2",)), tmp_path / "run")


def test_a_second_call_makes_the_answer_and_is_charged(checkpoint, tmp_path):
  data = benchmark_files.longbench_v2(tmp_path / "data.json", number=2)
  values = {"sampling__max_new_tokens": 8, "contexts": (1,)}
  plain = run(of_documents(checkpoint, data, tasks=("longbench_v2",), **values), tmp_path / "plain")
  both = run(
    of_documents(checkpoint, data, tasks=("longbench_v2(cot=on)",), **values), tmp_path / "cot"
  )
  for one, two in zip(plain.rows, both.rows, strict=True):
    assert "\n\n" in two["resps"][0][0] and two["tokens"] > one["tokens"]
    assert two["phase_flops"]["generate"] > one["phase_flops"]["generate"]
  for done, keys in ((plain, set()), (both, {"response_cot"})):
    report.build([done.workdir], done.workdir)
    for path in done.workdir.rglob("longbench_v2.jsonl"):
      for line in path.read_text(encoding="utf-8").splitlines():
        result = json.loads(line)
        assert set(result) == _RESULT | keys
        if keys:
          (text,) = {
            row["resps"][0][0]
            for row in both.rows
            if row["doc"]["question_key"] == result["_id"] and row["strategy"] in str(path)
          }
          assert text.split() == f"{result['response_cot']} {result['response']}".split()


@pytest.mark.parametrize(
  "outputs, answer, thought",
  [
    (["Nets. \n\n(B)"], "(B)", "Nets."),
    (["Nets.\n\n(A) ", " Boats.\n\n(B) "], "(B)", "Boats."),
    (["Nets.\n\n"], "", "Nets."),
    ([""], "", ""),
  ],
)
def test_a_result_has_what_was_written_before_the_answer(outputs, answer, thought):
  row = synthetic_rows.row(task="longbench_v2(cot=on)", filtered_resps=[answer], resps=[outputs])
  row["doc"] |= {"question_key": "1", "source": {}}
  result = json.loads(LongBenchV2.submission([row])["longbench_v2.jsonl"])
  assert (result["response_cot"], result["response"]) == (thought, answer)


@pytest.mark.parametrize(
  "values, words",
  [
    ({}, ["config.data is empty", "longbench_v2 reads its data.json"]),
    ({"data": "/nowhere/data.json"}, ["/nowhere/data.json", "no such file"]),
    ({"unit": "native"}, ["config.unit", "longbench_v2 reads documents"]),
  ],
)
def test_what_documents_need_is_said_before_anything_is_loaded(checkpoint, values, words):
  config = tiny_run.config(checkpoint, tasks=("longbench_v2",))
  for name, value in values.items():
    config[name] = value
  with user_error(*words):
    run_config.check(config)


def test_a_control_on_another_document_needs_another_one(checkpoint, tmp_path):
  data = benchmark_files.longbench_v2(tmp_path / "data.json", number=1)
  config = of_documents(checkpoint, data, tasks=("longbench_v2",))
  config.strategies = ("in_context", "qttt_other_context")
  with user_error("config.strategies", "qttt_other_context", "longbench_v2 has one"):
    run_config.check(config)


def test_every_split_of_a_zip_is_read(tmp_path):
  folder = benchmark_files.zero_scrolls(tmp_path / "zips", ("musique",))
  for split in ("validation", "test"):
    assert ZeroScrolls("musique", split).open(folder).size == 2
