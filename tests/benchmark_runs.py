"""Runs the benchmarks' configs in smoke size, one after another in one process.

python -m tests.benchmark_runs MODEL FOLDER [STRATEGY ...]
"""

import pathlib
import sys

from tests import benchmark_files
from tttjax import flags, report
from tttjax.experiment import run

CONFIGS = ("longbench_v2", "zero_scrolls", "own")


def data_of(name: str, folder: pathlib.Path) -> pathlib.Path:
  """Made data of a config."""
  folder.mkdir(parents=True, exist_ok=True)
  if name == "longbench_v2":
    return benchmark_files.longbench_v2(folder / "data.json")
  if name == "zero_scrolls":
    return benchmark_files.zero_scrolls(folder / "zips")
  return benchmark_files.own(folder / "mine.jsonl")


def main(model: str, folder: pathlib.Path, strategies: tuple[str, ...]) -> None:
  for name in CONFIGS:
    config = flags.load_config(f"configs/{name}.py")
    config.data = str(data_of(name, folder / "data"))
    config.models, config.smoke = (model,), True
    if strategies:
      config.strategies, config.tasks, config.lengths = strategies, config.tasks[-1:], (256,)
    done = run(config, folder / name)
    assert not done.failed
    report.build([done.workdir], done.workdir)


if __name__ == "__main__":
  main(sys.argv[1], pathlib.Path(sys.argv[2]), tuple(sys.argv[3:]))
