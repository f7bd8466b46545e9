"""Files in the formats that benchmarks' own scripts and sites read, one folder a strategy."""

from collections.abc import Sequence
import pathlib

from tttjax.files import replacing
from tttjax.report.labels import short_names, slug
from tttjax.report.runs import Row, Run
from tttjax.tasks import TASKS

_LONGEST = 80  # characters of a name's options: some list the ids of questions


def write_submissions(runs: Sequence[Run], out: pathlib.Path) -> list[pathlib.Path]:
  """Writes OUT/submissions/<model, strategy, length, seed>/... of tasks that have a format.

  Where a benchmark's tasks have several options, such as two splits, each has a folder, which the
  options name: the files of one are those of one submission.

  Returns:
    The folders.
  """
  variants: dict[str, set[str]] = {}
  for run in runs:
    for row in filter(_has_format, (*run.rows, *run.unscored)):
      variants.setdefault(row["task_family"], set()).add(_variant(row))
  groups: dict[tuple, dict[str, list[Row]]] = {}
  for run in runs:
    for row in filter(_has_format, (*run.rows, *run.unscored)):
      family = row["task_family"]
      variant = _variant(row) if len(variants[family]) > 1 else ""
      place = run.label, row["model"], row["strategy"], row["length"], row["seed"], variant
      groups.setdefault(place, {}).setdefault(family, []).append(row)
  models = list(dict.fromkeys(model for _, model, *_ in groups))
  names = dict(zip(models, short_names(models)))
  folders: list[pathlib.Path] = []
  for (label, model, strategy, length, seed, variant), families in groups.items():
    parts = [label, names[model], strategy, f"{length}", f"seed{seed}", variant[:_LONGEST]]
    folder = _new(out / "submissions" / "_".join(filter(None, map(slug, parts))), folders)
    for family, rows in families.items():
      for name, text in TASKS[family].submission(rows).items():
        with replacing(folder / name) as temporary:
          temporary.write_text(text, encoding="utf-8", newline="")
    folders.append(folder)
  return folders


def _has_format(row: Row) -> bool:
  return hasattr(TASKS.get(row["task_family"]), "submission")


def _variant(row: Row) -> str:
  """The options of a row's task, but for those that one submission has all values of."""
  together = getattr(TASKS[row["task_family"]], "submitted_together", ())
  return " ".join(f"{k} {v}" for k, v in row["task_options"].items() if k not in together)


def _new(folder: pathlib.Path, others: Sequence[pathlib.Path]) -> pathlib.Path:
  """A folder of this name, or with a number behind it where another one has that name."""
  names = [folder, *(folder.with_name(f"{folder.name}_{i}") for i in range(2, len(others) + 2))]
  return next(name for name in names if name not in others)
