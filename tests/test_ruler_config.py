"""configs/ruler.py: its thirteen tasks, their checks, and a run of them on a tiny model."""

import pytest

from tests import benchmark_files, tiny_run
from tttjax import flags
from tttjax.errors import UserError
from tttjax.experiment import config as run_config
from tttjax.experiment import run
from tttjax.report import rows_to_cells
from tttjax.report.runs import read_run
from tttjax.report.task_averages import averages


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
  """The config's text for files that are made here."""
  folder = tmp_path_factory.mktemp("data of (mine)")
  prose = folder / "prose.txt"
  prose.write_text("".join(f"Sheep {i} jumps a fence.\n" for i in range(3000)))
  squad = benchmark_files.squad(folder / "squad.json")
  hotpotqa = benchmark_files.hotpotqa(folder / "hotpotqa.json", 40)
  return f"prose={prose},squad={squad},hotpotqa={hotpotqa}"


def test_eleven_tasks_need_no_file():
  config = flags.load_config("configs/ruler.py")
  assert config.lengths == (4096, 8192, 16384)
  assert len(run_config.check(config).tasks) == 11


def test_with_files_there_are_thirteen_at_every_length(sources):
  config = flags.load_config(f"configs/ruler.py:{sources}")
  assert config.lengths == (4096, 8192, 16384, 32768, 65536, 131072)
  config.lengths = (4096,)  # what the made files hold
  tasks = run_config.check(config).tasks
  assert len(tasks) == 13 and {type(task).benchmark for task in tasks.values()} == {"RULER"}
  assert sum("prose.txt" in name for name in tasks) == 5


@pytest.mark.parametrize("text", ["qa", "squad", "squad=", "squad=a,squad=b", "essays=a"])
def test_other_sources_are_one_line(text):
  with pytest.raises(UserError, match="give each of prose, squad, hotpotqa once, as squad=PATH"):
    flags.load_config(f"configs/ruler.py:{text}")


def test_all_thirteen_run_and_their_mean_is_in_the_tables(sources, tmp_path):
  tiny_run.write(tmp_path / "model")
  tasks = flags.load_config(f"configs/ruler.py:{sources}").tasks
  short = {"common_words": "common_words(often=4, rarely=2)"}
  config = tiny_run.config(
    tmp_path / "model",
    tasks=tuple(short.get(task, task) for task in tasks),
    lengths=(704,),
    contexts=(1,),
    questions=1,
    sampling__max_new_tokens=80,  # one program for all
    strategies=("in_context", "qttt"),
    share_programs=True,
  )
  done = run(config, tmp_path / "run")
  assert not done.failed and not any(row["error"] for row in done.rows)
  found = averages(rows_to_cells.cells([read_run(tmp_path / "run")]))
  assert [(a.benchmark, a.strategy, a.tasks) for a in found] == [
    ("RULER", "in_context", 13),
    ("RULER", "qttt", 13),
  ]
