"""The main job end to end on a tiny checkpoint: mistakes, outputs, resuming."""

import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from absl import flags as absl_flags
import jax
import pytest

from tests import synthetic_rows, tiny_run
import tttjax as tt
from tttjax import flags
from tttjax import main as job
from tttjax.experiment import run_fields, samples_file, tensorboard
from tttjax.files import write_json
from tttjax.rows import key_of
from tttjax.session import Session
from tttjax.strategies.in_context import InContext
from tttjax.strategies.thinking import Thinking
from tttjax.tasks.synthetic import bank_log

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Of the rows, these describe how a run went; everything else is what it found.
_NOT_RESULTS = ("seconds", "compiled")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  directory = tmp_path_factory.mktemp("checkpoint")
  tiny_run.write(directory)
  return directory


def run(monkeypatch, checkpoint, *arguments):
  """Runs the main job in this process, on one length of 128 tokens; returns the exit code."""
  overrides = {
    "models": checkpoint,
    "lengths": 128,
    "contexts": 2,
    "questions": 2,
    "ttt.steps": 2,
    "ttt.span": 8,
    "sampling.max_new_tokens": 4,
    "share_programs": "false",
    "seeds": 0,
  }
  line = [f"--config.{name}={value}" for name, value in overrides.items()]
  monkeypatch.setattr(sys, "argv", ["main.py", *line, *arguments])
  absl_flags.FLAGS.unparse_flags()
  for name in ("workdir", "retry_failed"):
    absl_flags.FLAGS[name].unparse()
  with pytest.raises(SystemExit) as exit_:
    flags.run(job.main, "configs/quickstart.py", run_fields.DESCRIPTIONS)
  return exit_.value.code or 0


@pytest.fixture
def start(checkpoint, tmp_path, monkeypatch):
  """A function: runs the main job in an empty directory with these arguments."""
  monkeypatch.chdir(tmp_path)
  return lambda *arguments: run(monkeypatch, checkpoint, *arguments)


@pytest.fixture(scope="module")
def finished(checkpoint, tmp_path_factory):
  """(stdout, stderr, working directory) of a complete run."""
  workdir = tmp_path_factory.mktemp("run")
  out, err = io.StringIO(), io.StringIO()
  with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(out):
    with contextlib.redirect_stderr(err):
      assert run(monkeypatch, checkpoint, f"--workdir={workdir}") == 0
  return out.getvalue(), err.getvalue(), workdir


def samples(workdir):
  (path,) = pathlib.Path(workdir).glob("samples_*.jsonl")
  return path, [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def results(rows):
  """By key, what the rows found, without how the run went."""
  return {key_of(row): {k: v for k, v in row.items() if k not in _NOT_RESULTS} for row in rows}


def test_run_prints_the_table(finished):
  out, err, workdir = finished
  for strategy in ("in-context", "thinking", "qTTT", r"qTTT on another context \(control\)"):
    assert re.search(rf"^ *128 +{strategy} +[01]\.\d+ \+- ", out, re.M), out
  # Not a terminal: one short line per cell, no bar; and where the page is.
  # Then how many programs it needed.
  *lines, programs, page = err.strip().splitlines()
  assert pathlib.Path(page) == workdir / "report.html"
  assert re.match(r"\d+ programs: ", programs)
  assert len(lines) == 4
  assert all(re.fullmatch(r"\w+ @ 128, bank_log: \d of 4 right", line) for line in lines)


def test_run_writes_every_output(finished):
  workdir = finished[2]
  names = {str(p.relative_to(workdir)) for p in workdir.rglob("*") if p.is_file()}
  names = {re.sub(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", "TIME", name) for name in names}
  figures = {name for name in names if re.fullmatch(r"figures/\w+\.png", name)}
  assert figures and names - figures == {
    "config.json",
    "samples_TIME.jsonl",
    "results_TIME.json",
    "report.html",
  }


def test_rows_are_one_per_prediction_with_the_harness_fields(finished):
  _, rows = samples(finished[2])
  keys = [key_of(row) for row in rows]
  assert len(keys) == len(set(keys)) == 4 * 2 * 2
  for row in rows:
    assert {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps"} <= set(row)
    assert len(row["doc"]["context_head"]) <= 200 and len(row["doc"]["context_sha256"]) == 64
    assert row["flops"] == sum(row["phase_flops"].values()) > row["amortised_flops"] > 0
    given = row["budget"]["flops"]
    assert row["flops"] - row["phase_flops"]["prefill"] <= 1.1 * given
    assert row["error"] is None and row["fallback"] is None
    assert (row["adaptation"] is not None) == row["strategy"].startswith("qttt")
    assert 0 < row["mechanism"]["mass"] < 1
  by_doc = {}
  for row in rows:
    by_doc.setdefault((row["context"], row["question"]), set()).add(row["doc_hash"])
  assert all(len(hashes) == 1 for hashes in by_doc.values())  # all strategies, same questions


def test_rows_of_beams_say_that_they_did_not_sample(checkpoint, tmp_path):
  config = tiny_run.config(
    checkpoint,
    strategies=("beam(n=2)", "thinking"),
    contexts=(1,),
    questions=1,
    thinking__temperature=0.6,
  )
  rows = tt.run(config, tmp_path / "run").rows
  temperatures = {row["family"]: row["arguments"][0][1]["temperature"] for row in rows}
  assert temperatures == {"beam": 0.0, "thinking": 0.6}


def test_results_have_the_harness_shape_and_the_cells(finished):
  workdir = finished[2]
  (path,) = workdir.glob("results_*.json")
  result = json.loads(path.read_text())
  _, rows = samples(workdir)
  assert len(result["results"]) == len(result["cells"]) == 4
  for name, cell in zip(result["results"], result["cells"]):
    own = [row["acc"] for row in rows if row["strategy"] == cell["strategy"]]
    assert result["results"][name]["acc,none"] == pytest.approx(sum(own) / len(own))
    assert result["results"][name]["acc_stderr,none"] == cell["stderr"]
    assert result["n-samples"][name]["effective"] == cell["n"] == 4
  assert {"config", "configs", "git_hash", "date"} <= set(result)


def test_report_is_self_contained(finished):
  page = (finished[2] / "report.html").read_text(encoding="utf-8")
  assert page.count("data:image/png;base64,") >= 2
  # Nothing is loaded from elsewhere: links lead to files that lie beside the page.
  assert not re.search(r'src="(?!data:)', page) and "<link" not in page
  for link in re.findall(r'href="(?!#)([^"]*)"', page):
    assert (finished[2] / link).is_file(), link
  assert "How to read it" in page and "qTTT on another context" in page


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--config.ttt.stpes=3"], "did you mean --config.ttt.steps?"),
    (["--config.ttt.steps=1.5"], "config.ttt.steps=1.5: give a whole number, or 'matched'"),
    (["--config.contexts=many"], "--config.contexts=many: expected a comma-separated list"),
    (["--config.contexts=2,3"], "config.contexts has 2 numbers for 1 lengths"),
    (["--config.seeds=-1"], "config.seeds: -1 must be at least 0"),
    (["--config.attention=flash"], "config.attention='flash': choose one of auto, portable"),
    (["--config.unit=words"], "config.unit='words': choose tokens or native"),
    (["--config.strategies=qtt"], "config.strategies: unknown 'qtt'; did you mean 'qttt'?"),
    (["--config.strategies=qttt(stpes=1)"], "qttt has no option 'stpes'; did you mean 'steps'?"),
    (["--config.strategies=qttt(spans=best)"], "spans=best: choose one of random, oracle"),
    (["--config.strategies=qttt,qttt()"], "config.strategies names a value twice"),
    (["--config.strategies=qttt(steps=-1)"], "config.strategies: qttt(steps=-1): steps must be"),
    (["--config.strategies=in_context(stretch=64)"], "stretch=64 is shorter than a context of"),
    (["--config.strategies=self_consistency"], "write self_consistency(temperature=0.6)"),
    (["--config.tasks=bank_lag"], "config.tasks: unknown 'bank_lag'; did you mean 'bank_log'?"),
    (["--config.tasks=bank_log(kind=amounts)"], "config.tasks: "),
    (["--config.tasks=code_bugs(source=/nowhere)", "--config.lengths=512"], "/nowhere"),
    (["--config.tasks=code_bugs(source=./empty)", "--config.lengths=512"], "empty"),
    (["--config.models=/nowhere"], "config.models: /nowhere: no such directory"),
    (["--config.models=/no,where"], """quotes of its own: --config.models='"PATH"'"""),
    (["--config.models=~nobody9/x"], "config.models: the path of the checkpoint=~nobody9/x: no"),
    (["--config.ttt.steps=matched", "--config.thinking.budget=1"], "too small for one step"),
    (["--config.lengths=128,2048"], "the model's 1024 positions"),
    (["--config.thinking.budget=900"], "config.thinking.budget: 900 thinking tokens"),
    (["--config.ttt.span=127"], "span=127 does not fit a context of"),
    (["--config.lengths=16"], "16"),
    (["--config.ttt.clip=0"], "config.ttt.clip must be above 0"),
    (["--config.thinking.top_p=2"], "config.thinking.top_p must be at most 1, not 2.0"),
    (["--config.strategies="], "config.strategies is empty"),
    (["--config.lengths=128,128"], "config.lengths names a value twice"),
    (["--config.ttt.steps=matched"], "give one of them as a number"),
    (["--config.mesh.tensor=3"], "config.mesh: mesh {'data': 1, 'fsdp': 1, 'tensor': 3"),
    (["--workdir="], "workdir is empty; give a path"),
    (["--config.workdir="], "config.workdir is empty; give a path"),
    (["--config.lengths=128,,256"], "--config.lengths=128,,256: expected a comma-separated list"),
    (["--config.seeds=9223372036854775808"], "must be below 2^31"),
    (["--wordkir=x"], "Did you mean: workdir"),
    (["--config=configs/nothing.py"], "no such file"),
  ],
)
def test_mistake_is_one_line_before_anything_is_loaded(
  start, capfd, monkeypatch, tmp_path, arguments, message
):
  monkeypatch.setattr(Session, "open", lambda *unused, **named: pytest.fail("loaded the model"))
  (tmp_path / "empty").mkdir()
  assert start(*arguments) == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and error.startswith("main.py: error: ")
  assert message in error
  assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_truncated_weights_are_one_line_and_leave_no_work_directory(
  start, checkpoint, tmp_path, capfd
):
  broken = tmp_path / "broken"
  shutil.copytree(checkpoint, broken)
  weights = broken / "model.safetensors"
  weights.write_bytes(weights.read_bytes()[:-100])
  assert start(f"--config.models={broken}", "--workdir=run") == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and "config.models: " in error and "model.safetensors" in error
  assert not pathlib.Path("run").exists()


def test_mistake_exits_2_from_the_shell():
  process = subprocess.run(
    [sys.executable, "-m", "tttjax.main", "--config.ttt.stpes=3"],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert (process.returncode, process.stdout) == (2, "")
  assert process.stderr == (
    "main.py: error: --config.ttt.stpes: no such field; did you mean --config.ttt.steps?\n"
  )


def test_workdir_of_another_config_says_what_differs(start, finished, capfd):
  workdir = finished[2]
  before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
  assert start(f"--workdir={workdir}", "--config.ttt.learning_rate=0.5") == 2
  error = capfd.readouterr().err
  assert "ttt.learning_rate: 0.001 there, 0.5 now" in error and error.count("\n") == 1
  assert before == {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}


def test_compressed_run_is_not_begun_anew(start, finished, tmp_path, capfd):
  workdir = tmp_path / "packed"
  workdir.mkdir()
  (workdir / "config.json").write_bytes((finished[2] / "config.json").read_bytes())
  (workdir / "samples_1.jsonl.gz").write_bytes(b"")
  assert start(f"--workdir={workdir}") == 2
  error = capfd.readouterr().err
  assert "samples_1.jsonl.gz: a compressed run is not continued; gunzip it" in error


def test_code_of_another_commit_may_continue_a_run_that_keeps_its_first(start, finished, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(finished[2], workdir)
  config = workdir / "config.json"
  settings = json.loads(config.read_text()) | {"git_hash": "abc"}
  config.write_text(json.dumps(settings))
  assert start(f"--workdir={workdir}") == 0
  (results_file,) = workdir.glob("results_*.json")
  assert json.loads(results_file.read_text())["git_hash"] == "abc"


def test_other_examples_under_the_same_names_are_not_mixed_in(start, finished, monkeypatch, capfd):
  monkeypatch.setattr(bank_log, "HEADER", bank_log.HEADER.replace("Bank", "The"))
  assert start(f"--workdir={finished[2]}") == 2
  assert "is not the one that its rows were made from" in capfd.readouterr().err


def test_reference_answer_longer_than_an_answer_may_be_is_refused(start, capfd):
  assert start("--config.sampling.max_new_tokens=1") == 2
  assert "config.sampling.max_new_tokens=1 is less than the 2 tokens" in capfd.readouterr().err


def test_workdir_that_is_a_file_is_refused(start, tmp_path, capfd):
  (tmp_path / "file").write_text("")
  assert start("--workdir=file") == 2
  assert "--workdir=file" in capfd.readouterr().err


def test_second_run_at_the_same_time_is_refused(start, finished, capfd):
  workdir = finished[2]
  first = samples_file.SamplesFile(workdir)
  try:
    assert start(f"--workdir={workdir}") == 2
    assert "another run is writing here" in capfd.readouterr().err
  finally:
    first.close()


def test_rerun_of_a_finished_run_changes_no_row(start, finished):
  path, _ = samples(finished[2])
  before = path.read_bytes()
  assert start(f"--workdir={finished[2]}") == 0
  assert path.read_bytes() == before


def test_run_on_a_mesh_gives_the_same_answers(start, finished, tmp_path):
  workdir = tmp_path / "mesh"
  axes = "--config.mesh.tensor=2", "--config.mesh.context=4"
  fewer = "--config.strategies=qttt", "--config.mechanism=false"  # sooner compiled
  assert start(f"--workdir={workdir}", *axes, *fewer) == 0
  answers = lambda rows: {
    key_of(row): row["filtered_resps"] for row in rows if row["strategy"] == "qttt"
  }
  assert answers(samples(workdir)[1]) == answers(samples(finished[2])[1])


def test_truncated_run_resumes_to_the_same_rows(start, finished, tmp_path, caplog):
  # As after a crash: the last line is half-written, a unit is only partly there.
  path, complete = samples(finished[2])
  workdir = tmp_path / "copy"
  workdir.mkdir()
  (workdir / "config.json").write_bytes((finished[2] / "config.json").read_bytes())
  lines = path.read_bytes().splitlines(keepends=True)
  kept = b"".join(lines[:4])
  (workdir / path.name).write_bytes(kept + lines[4][:25])
  assert start(f"--workdir={workdir}") == 0
  assert "half-written last line (25 bytes)" in caplog.text
  resumed_path, resumed = samples(workdir)
  assert resumed_path.read_bytes().startswith(kept)
  assert len(resumed) == len(complete)
  assert results(resumed) == results(complete)


def test_bad_line_is_named(start, finished, tmp_path, capfd):
  path, _ = samples(finished[2])
  workdir = tmp_path / "copy"
  workdir.mkdir()
  (workdir / "config.json").write_bytes((finished[2] / "config.json").read_bytes())
  (workdir / path.name).write_text('{"strategy": "qttt"}\n')
  assert start(f"--workdir={workdir}") == 2
  assert f"{path.name}: line 1 is not a row" in capfd.readouterr().err


def test_interrupt_keeps_rows_and_says_how_to_go_on(start, tmp_path, monkeypatch, capfd):
  def interrupted(*unused):
    raise KeyboardInterrupt

  monkeypatch.setattr(Thinking, "__call__", interrupted)
  workdir = tmp_path / "run"
  assert start(f"--workdir={workdir}") == 130
  error = capfd.readouterr().err.strip().splitlines()[-1]
  assert "interrupted with 2 rows" in error and "the same command continues" in error
  assert len(samples(workdir)[1]) == 2


def test_example_that_fails_becomes_a_row_and_the_run_goes_on(start, tmp_path, monkeypatch, capfd):
  answer = InContext.__call__

  def exhausted(self, session, case, *rest):
    if case.example.key.endswith("/1"):
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 9 bytes")
    return answer(self, session, case, *rest)

  monkeypatch.setattr(InContext, "__call__", exhausted)
  workdir = tmp_path / "run"
  assert start(f"--workdir={workdir}", "--config.strategies=in_context,qttt") == 0
  _, rows = samples(workdir)
  assert len(rows) == 8
  failed = [row for row in rows if row["error"]]
  assert [(row["strategy"], row["context"]) for row in failed] == [("in_context", 1)] * 2
  for row in failed:
    assert row["error"] == "JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"
    assert row["acc"] == 0 and row["filtered_resps"] == [""]
  assert "RESOURCE_EXHAUSTED" in (workdir / "report.html").read_text()
  assert "2 of 8 predictions failed and count as wrong" in capfd.readouterr().err
  monkeypatch.undo()
  monkeypatch.chdir(tmp_path)
  again = f"--workdir={workdir}", "--config.strategies=in_context,qttt"
  assert start(*again) == 0  # a failure is a result too
  assert samples(workdir)[1] == rows
  assert start(*again, "--retry_failed") == 0
  _, repaired = samples(workdir)
  assert len(repaired) == 8 and not any(row["error"] for row in repaired)
  assert [row for row in rows if not row["error"]] == repaired[:6]


def test_run_of_which_every_prediction_failed_exits_1(start, tmp_path, monkeypatch, capfd):
  def exhausted(*unused):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

  monkeypatch.setattr(InContext, "__call__", exhausted)
  assert start(f"--workdir={tmp_path / 'run'}", "--config.strategies=in_context") == 1
  assert "all 4 predictions failed and count as wrong" in capfd.readouterr().err
  assert (tmp_path / "run" / "report.html").exists()


def test_home_directory_in_workdir_is_expanded(start, finished, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(finished[2].parent))
  assert start(f"--workdir=~/{finished[2].name}") == 0
  assert not (tmp_path / "~").exists()


def test_two_models_seeds_and_tasks_are_all_run(start, checkpoint, tmp_path):
  other = tmp_path / "other"
  shutil.copytree(checkpoint, other)
  workdir = tmp_path / "run"
  assert (
    start(
      f"--workdir={workdir}",
      f"--config.models={checkpoint},{other}",
      "--config.seeds=3,4",
      "--config.tasks=bank_log,bank_log(kind=amount)",
      "--config.strategies=in_context",
      "--config.mechanism=false",
    )
    == 0
  )
  _, rows = samples(workdir)
  cells = {(row["model"], row["task"], row["seed"], row["context"]) for row in rows}
  assert len(cells) == 2 * 2 * 2 * 2
  heads = {
    (row["seed"], row["context"]): row["doc"]["context_sha256"]
    for row in rows
    if row["task"] == "bank_log"
  }
  assert len(set(heads.values())) == 4  # seeds have contexts of their own


def test_tensorboard_gets_losses_and_accuracies(start, tmp_path):
  workdir = tmp_path / "run"
  assert start(f"--workdir={workdir}", "--config.strategies=qttt", "--config.tensorboard=true") == 0
  (events,) = (workdir / "tensorboard").iterdir()
  data = events.read_bytes()
  assert b"acc/bank_log/qttt/128/0" in data and b"loss/bank_log/qttt/128/0/1" in data


def test_tensorboard_gets_the_primary_score_of_a_task_without_accuracy(tmp_path):
  row = synthetic_rows.row(task="needles", metrics=["recall"], recall=0.5)
  del row["acc"]
  board = tensorboard.TensorBoard(tmp_path)
  board.write([row])
  board.close()
  (events,) = (tmp_path / "tensorboard").iterdir()
  assert b"recall/needles" in events.read_bytes()


def test_missing_tensorboard_is_said_before_anything_is_loaded(start, monkeypatch, capfd):
  monkeypatch.setitem(sys.modules, "tensorboardX", None)
  assert start("--config.tensorboard=true") == 2
  assert "pip install 'tttjax[tensorboard]'" in capfd.readouterr().err


def test_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / "results.json"
  write_json(path, {"a": 1})
  with pytest.raises(ValueError):
    write_json(path, {"a": float("nan")})
  assert json.loads(path.read_text()) == {"a": 1}
  assert list(tmp_path.iterdir()) == [path]
