"""Every config of the repository: the paper's run in smoke size, the others pass their checks."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

from absl import flags as absl_flags
import jax
import pytest

from tests import benchmark_files, smollm2
from tests.errors import user_error
from tttjax import flags, hosts
from tttjax import main as job
from tttjax.checkpoint import open_checkpoint
from tttjax.embedded import EMBEDDED
from tttjax.errors import UserError
from tttjax.experiment import config as run_config
from tttjax.experiment import default_config, paper, run_fields, run_size
from tttjax.experiment.device_groups import groups_of
from tttjax.models.decoder_config import DecoderConfig

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Those that read a benchmark's files: config -> (the text after its name, benchmark).
DOCUMENTS = {
  "table4_longbench_v2.py": [("", "longbench_v2")],
  "table5_zero_scrolls.py": [("", "zero_scrolls")],
  "tables6_7_32b.py": [(":longbench_v2", "longbench_v2"), (":zero_scrolls", "zero_scrolls")],
  "matched_samples.py": [(":longbench_v2", "longbench_v2"), (":zero_scrolls", "zero_scrolls")],
}
ON_DOCUMENTS = [
  (f"{n}{size}", benchmark) for n, sizes in DOCUMENTS.items() for size, benchmark in sizes
]
EVERY = sorted(path.name for path in (ROOT / "configs" / "paper").glob("*.py"))
PAPER = [name for name in EVERY if not name.startswith("table")]
OTHERS = ("quickstart.py", "sandbox.py", "honest.py", "embedded_scores.py")
REAL = tuple(f"smollm2.py{part}" for part in ("", ":rates", ":thinking", ":shortest"))


def made_data(benchmark, folder):
  """Small files with documents for every task of a benchmark."""
  if benchmark == "zero_scrolls":
    return benchmark_files.zero_scrolls(folder / "zips")
  domains = [task.split("'")[1] for task in paper.BENCHMARKS[benchmark]]
  return benchmark_files.longbench_v2(folder / "data.json", 2 * len(domains), domains)


def smoke(monkeypatch, name, workdir, **fields):
  """Rows of the config's smoke run, with these fields set on the command line."""
  monkeypatch.setattr(
    sys,
    "argv",
    [
      "main.py",
      f"--config=configs/{name}",
      "--config.smoke=true",
      *(f"--config.{field}={value}" for field, value in fields.items()),
      f"--workdir={workdir}",
    ],
  )
  absl_flags.FLAGS.unparse_flags()
  for flag in ("workdir", "retry_failed"):
    absl_flags.FLAGS[flag].unparse()
  with pytest.raises(SystemExit) as exit_:
    flags.run(job.main, "configs/quickstart.py", run_fields.DESCRIPTIONS)
  assert not exit_.value.code
  return written(workdir)


def written(workdir):
  """Rows of a run that has ended."""
  assert (workdir / "report.html").is_file() and list((workdir / "figures").iterdir())
  (path,) = workdir.glob("samples_*.jsonl")
  return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check_rows(name, rows, **fields):
  config = flags.load_config(f"configs/{name}")
  config.smoke = True
  for field, value in fields.items():
    flags.override(config, field, str(value))
  plan = run_config.check(config)
  cells = {(row["task"], row["strategy"], row["length"]) for row in rows}
  lengths = [min(plan.config.lengths)]
  assert cells == {
    (task, strategy, length)
    for task in plan.tasks
    for strategy in plan.strategies
    for length in lengths
  }
  assert [row["error"] for row in rows if row["error"]] == []


# One of them by default; all with -m 'slow or not slow'.
_QUICK = ("latency.py",)


@pytest.mark.parametrize(
  "name",
  [pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name in PAPER],
)
def test_paper_config_runs_in_smoke_size(monkeypatch, tmp_path, name):
  check_rows(f"paper/{name}", smoke(monkeypatch, f"paper/{name}", tmp_path / "run"))


@pytest.mark.slow  # a minute or two each
@pytest.mark.parametrize("name, benchmark", ON_DOCUMENTS)
def test_paper_config_runs_on_made_documents(monkeypatch, tmp_path, name, benchmark):
  data = made_data(benchmark, tmp_path)
  # Of nine strategies with up to 32 samples each one task is enough.
  tasks = paper.BENCHMARKS[benchmark][: 1 if "matched" in name else None]
  own = {"data": data, "tasks": ",".join(tasks)}
  rows = smoke(monkeypatch, f"paper/{name}", tmp_path / "run", **own)
  check_rows(f"paper/{name}", rows, **own)


@pytest.mark.parametrize(
  "steps, budget, smaller",
  [
    (32, "matched", (4, 64)),
    ("matched", 8192, (4, 64)),
    (32, "paper", (4, 64)),
    (2, 60, (2, 60)),
  ],
)
def test_smoke_takes_few_steps_and_short_thoughts(steps, budget, smaller):
  config = default_config()
  config.smoke, config.ttt.steps, config.thinking.budget = True, steps, budget
  checked = run_config.check(config).config
  assert (checked.ttt.steps, checked.thinking.budget) == smaller


def test_smoke_needs_neither_the_devices_nor_the_positions_of_models_that_are_not_read():
  config = default_config()
  config.smoke, config.models = True, ("/data/Qwen3-32B",)
  config.mesh.tensor, config.mesh.context, config.yarn.factor = 2, 5, 4.0
  plan = run_config.check(config)
  assert set(plan.config.mesh.values()) == {1} and list(plan.models) == ["embedded"]
  config.models = ("embedded",)  # by its name: on the devices that are asked for
  plan = run_config.check(config)
  assert plan.config.yarn.factor == 0.0  # the contexts are short
  sizes = plan.config.mesh.to_dict()
  with pytest.raises(UserError, match="config.mesh: mesh .* needs 10 devices"):
    groups_of(sizes)


def test_yarn_that_a_model_cannot_have_names_it_and_the_flag_that_drops_it():
  config = default_config()
  config.models, config.yarn.factor = ("embedded",), 4.0
  with user_error("config.yarn: embedded: original must be", "--config.yarn.factor=0"):
    run_config.check(config)


def test_smoke_on_several_processes_keeps_a_device_of_each(monkeypatch):
  """The embedded model stands in for one that needed the mesh; all processes still take part."""
  config = default_config()
  config.smoke, config.models, config.mesh.tensor = True, ("/data/Qwen3-32B",), 8
  assert set(run_config.check(config).config.mesh.values()) == {1}
  monkeypatch.setattr(hosts, "count", lambda: 2)
  sizes = run_config.check(config).config.mesh.to_dict()
  assert sizes == {"data": jax.device_count(), "fsdp": 1, "tensor": 1, "context": 1}


def test_smoke_leaves_room_for_a_forced_stop_in_every_sample():
  config = default_config()
  config.smoke = True
  config.strategies = ("thinking", "beam", "self_consistency(n=32, temperature=0.6)")
  assert run_config.check(config).config.thinking.budget == 512
  for wrong in ("beam(n=", "beam(n=two)", "beam)", "bean(n=3)"):
    config.strategies = (wrong,)
    with pytest.raises(UserError, match=r"config\.strategies"):
      run_config.check(config)


@pytest.mark.slow  # two minutes, most of it compilation
def test_sandbox_runs_every_task_and_strategy_in_smoke_size(monkeypatch, tmp_path):
  check_rows("sandbox.py", smoke(monkeypatch, "sandbox.py", tmp_path / "run"))


def test_the_study_of_a_real_model_runs_in_smoke_size(tmp_path):
  smollm2.skip_without()
  workdir = tmp_path / "run"
  command = "-m tttjax.main --config=configs/smollm2.py --config.smoke=True".split()
  # A process with XLA's own flags: most of it is computing, which those of the tests slow down.
  subprocess.run(
    [sys.executable, *command, f"--workdir={workdir}"],
    cwd=ROOT,
    env=os.environ | {"XLA_FLAGS": ""},
    check=True,
  )
  rows = written(workdir)
  check_rows("smollm2.py", rows)
  assert {row["model"] for row in rows} == {"smollm2"}
  assert all(row["mechanism"]["reference_logprob"] < 0 for row in rows if row["mechanism"])


@pytest.mark.parametrize("name", REAL)
def test_config_of_a_real_model_passes_its_checks(name):
  smollm2.skip_without()
  test_config_passes_its_checks(name)


def test_an_unknown_part_is_one_line():
  with pytest.raises(UserError, match="part 'all': choose one of study, thinking, rates, shortest"):
    flags.load_config("configs/smollm2.py:all")


@pytest.mark.parametrize("name", OTHERS)
def test_config_passes_its_checks(name):
  plan = run_config.check(flags.load_config(f"configs/{name}"))
  assert run_size.estimate(plan).flops > 0


# Qwen3-4B as it is published.
_QWEN3_4B = DecoderConfig(
  vocab_size=151936,
  hidden_size=2560,
  intermediate_size=9728,
  num_hidden_layers=36,
  num_attention_heads=32,
  num_key_value_heads=8,
  head_dim=128,
  rope_theta=1e6,
  max_position_embeddings=40960,
  tie_word_embeddings=True,
)


@pytest.mark.parametrize("name", PAPER)
def test_papers_own_size_passes_its_checks(name, monkeypatch):
  """All but the weights and the fetched source tree, which are not here."""
  stock = dataclasses.replace(open_checkpoint(EMBEDDED), config=_QWEN3_4B)
  monkeypatch.setattr(run_config, "_checkpoint", lambda *_: stock)
  config = flags.load_config(f"configs/paper/{name}:paper")
  config.tasks = tuple(task.replace("source=olmo", "source=optax") for task in config.tasks)
  plan = run_config.check(config)
  assert plan.config.seeds in ((0,), (1,))
  if plan.in_tokens:
    assert run_size.estimate(plan).flops > 1e15
  config.unit, config.lengths, config.contexts = "tokens", (40900,), (1,)
  with pytest.raises(UserError, match="exceed the model's 40960 positions"):
    run_size.estimate(run_config.check(config))  # no room for question and answer


@pytest.mark.parametrize("name, benchmark", ON_DOCUMENTS)
def test_papers_size_on_documents_passes_its_checks(name, benchmark, tmp_path, monkeypatch):
  """All but weights, devices and the benchmark's own files: stock Qwen3-4B, which YaRN extends."""
  stock = dataclasses.replace(open_checkpoint(EMBEDDED), config=_QWEN3_4B)
  monkeypatch.setattr(run_config, "open_checkpoint", lambda name: stock)
  config = flags.load_config(f"configs/paper/{name}")
  config.data, config.mesh.tensor = str(made_data(benchmark, tmp_path)), 1
  plan = run_config.check(config)
  assert {one.config.max_positions for one in plan.models.values()} == {131_072}
  assert {type(task).name for task in plan.tasks.values()} == {benchmark}
  assert len(plan.tasks) == {"longbench_v2": 6, "zero_scrolls": 8}[benchmark]
  assert run_size.estimate(plan).flops > 1e15
  config.yarn.factor = 0.0
  config.lengths = (120_000,)
  cut = run_config.check(config)  # documents are cut to what there is
  assert {one.config.max_positions for one in cut.models.values()} == {40_960}


def test_a_benchmark_that_is_not_the_papers_is_refused():
  with pytest.raises(UserError, match="benchmark 'own': choose one of longbench_v2, zero_scrolls"):
    flags.load_config("configs/paper/tables6_7_32b.py:own")


@pytest.mark.parametrize("name", EVERY + [f"../{name}" for name in OTHERS])
def test_docstring_gives_the_command(name):
  text = (ROOT / "configs" / "paper" / name).read_text(encoding="utf-8")
  path = (ROOT / "configs" / "paper" / name).resolve().relative_to(ROOT)
  assert f"python -m tttjax.main --config={path}" in text.split('"""')[1]


def test_unknown_size_is_refused():
  with pytest.raises(UserError, match="--config=FILE:paper"):
    flags.load_config("configs/paper/fig1b.py:large")
