"""Files in the formats that benchmarks' own scripts and sites read, one folder a strategy."""

from collections.abc import Sequence
import pathlib

from tttjax.files import replacing
from tttjax.report.labels import short_names, slug
from tttjax.report.runs import Row, Run
from tttjax.tasks import TASKS


def write_submissions(runs: Sequence[Run], out: pathlib.Path) -> list[pathlib.Path]:
  """Writes OUT/submissions/<model, strategy, length, seed>/... of tasks that have a format.

  Returns:
    The folders.
  """
  groups: dict[tuple, dict[str, list[Row]]] = {}
  for run in runs:
    for row in (*run.rows, *run.unscored):
      if hasattr(TASKS.get(row["task_family"]), "submission"):
        place = run.label, row["model"], row["strategy"], row["length"], row["seed"]
        groups.setdefault(place, {}).setdefault(row["task_family"], []).append(row)
  models = list(dict.fromkeys(model for _, model, *_ in groups))
  names = dict(zip(models, short_names(models)))
  folders = []
  for (label, model, strategy, length, seed), families in groups.items():
    parts = [label, names[model], strategy, f"{length}", f"seed{seed}"]
    folder = out / "submissions" / "_".join(filter(None, map(slug, parts)))
    for family, rows in families.items():
      for name, text in TASKS[family].submission(rows).items():
        with replacing(folder / name) as temporary:
          temporary.write_text(text, encoding="utf-8", newline="")
    folders.append(folder)
  return folders
