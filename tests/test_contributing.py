"""The code of CONTRIBUTING.md runs: what it adds is used by a run on a tiny checkpoint."""

import pathlib
import re

import pytest

from tests import synthetic_rows, tiny_run
import tttjax as tt
from tttjax.attention.backends import BACKENDS, Backend
from tttjax.models.families import FAMILIES
from tttjax.report import rows_to_cells
from tttjax.report.runs import Run
from tttjax.strategies import STRATEGIES
from tttjax.strategies.selectors import SELECTORS
from tttjax.tasks.metrics import METRICS

CONTRIBUTING = pathlib.Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"
*ADDITIONS, PROFILE = re.findall(
  r"^```python\n(.*?)^```", CONTRIBUTING.read_text(encoding="utf-8"), re.S | re.M
)


@pytest.fixture(scope="module")
def added():
  """What the blocks define, one after another."""
  names = {}
  for block in ADDITIONS:
    exec(compile(block, str(CONTRIBUTING), "exec"), names)
  return names


@pytest.fixture(scope="module")
def rows(added, tmp_path_factory):
  """The rows of a run with both additions, by strategy."""
  checkpoint = tmp_path_factory.mktemp("checkpoint")
  tiny_run.write(checkpoint)
  config = tiny_run.config(
    checkpoint, strategies=("asked_twice", "qttt(spans=last)"), contexts=(1,), mechanism=False
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(STRATEGIES, "asked_twice", added["AskedTwice"])
    patch.setitem(SELECTORS, "last", added["LastSpans"]())
    return {row["strategy"]: row for row in tt.run(config, tmp_path_factory.mktemp("run")).rows}


def test_the_strategy_answers_within_its_allowance(rows):
  row = rows["asked_twice"]
  after_prefill = row["flops"] - row["phase_flops"]["prefill"]
  assert row["error"] is None and row["tokens"] > 0
  assert 0 < after_prefill <= row["budget"]["flops"]


def test_the_selector_says_where_steps_are_taken(rows):
  row = rows["qttt(spans=last)"]
  last = row["doc"]["context_tokens"] - 8 - 1
  assert row["adaptation"]["start"][:2] == [last, last - 8][: len(row["adaptation"]["start"])]


def test_the_metric_is_in_the_cells_of_a_report(added, monkeypatch):
  monkeypatch.setitem(METRICS, "worse", added["worse"])
  scores = [(1, 0), (1, 1), (1, 0), (0, 0)]
  made = [
    synthetic_rows.row(context=c, metrics=["type_acc", "id_acc"], type_acc=a, id_acc=b)
    for c, (a, b) in enumerate(scores)
  ]
  (cell,) = rows_to_cells.cells([Run("x", pathlib.Path("x"), {}, made, "2025-01-02T03-04-05")])
  assert cell.corpus["worse"].mean == 0.25


def test_the_backend_is_a_static_value(added, monkeypatch):
  monkeypatch.setitem(BACKENDS, "fused", added["fused"]["fused"])
  assert added["backend"].kernels is added["fused"]["fused"]
  assert hash(added["backend"]) != hash(Backend())


def test_the_family_has_its_own_names_and_is_not_registered_by_the_text(added):
  toy = added["TOY"]
  assert any(layout.name.startswith("transformer.layers") for layout in toy.layouts)
  assert toy.model_type not in FAMILIES


def test_the_profile_is_written(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  exec(compile(PROFILE, str(CONTRIBUTING), "exec"), {})
  assert list((tmp_path / "runs/profile").rglob("*.xplane.pb"))
  assert capsys.readouterr().out.endswith("False\n")
