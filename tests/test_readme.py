"""The README's code runs as it stands."""

import pathlib
import re

import pytest

from tests import smollm2, synthetic_rows
from tttjax.experiment import Run
from tttjax.experiment import config as run_config

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
TWENTY_LINES, SESSION, RUN = re.findall(
  r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M
)


def execute(block, names):
  exec(compile(block, str(README), "exec"), names)


@pytest.fixture(
  scope="module", params=["embedded", pytest.param("smollm2", marks=pytest.mark.slow)]
)
def names(request, tmp_path_factory):
  """What the first block defines, executed in an empty directory with either named model."""
  if request.param == "smollm2":
    smollm2.skip_without()
  defined = {"directory": tmp_path_factory.mktemp("readme"), "MODEL": request.param}
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(defined["directory"])
    execute(with_model(TWENTY_LINES, request.param), defined)
  return defined


def with_model(block, name):
  assert "tt.EMBEDDED" in block
  return block if name == "embedded" else block.replace("tt.EMBEDDED", repr(name))


def test_the_api_in_twenty_lines_runs(names):
  assert len([line for line in TWENTY_LINES.splitlines() if line.strip()]) <= 24
  assert (names["directory"] / "runs/adapted/model.safetensors").exists()
  assert names["logprobs"].shape == names["question"].shape


def test_a_session_answers_as_the_functions_do(names):
  execute(with_model(SESSION, names["MODEL"]), names)
  assert names["outputs"][0][0].answer == names["answer"]
  assert names["cost"].flops(0) > 0


def test_the_run_from_python_is_accepted_and_its_rows_make_the_table(names, monkeypatch, capsys):
  """The rows are invented: tests/test_growth.py makes some."""

  def invented(config, workdir):
    plan = run_config.check(config)
    rows = synthetic_rows.rows(tuple(plan.strategies), config.lengths, contexts=config.contexts[0])
    return Run(pathlib.Path(workdir), rows)

  monkeypatch.setattr("tttjax.run", invented)
  execute(RUN, names)
  assert {row["strategy"] for row in names["run"].rows} == {"in_context", "qttt"}
  assert "in_context" in capsys.readouterr().out
