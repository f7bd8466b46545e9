"""How tables, figures and reports call strategies, tasks, models and numbers."""

from collections.abc import Mapping, Sequence
import pathlib
import re

from tttjax import spec
from tttjax.strategies import STRATEGIES, Role
from tttjax.tasks import TASKS
from tttjax.tasks.metrics import metric as metric_of


def role_of(family: str) -> Role:
  """What a strategy is for; one that is not registered (any more) is taken for a method."""
  return getattr(STRATEGIES.get(family), "role", Role.METHOD)


def reference() -> str:
  """The strategy that all others are compared with, without options: the first of that role."""
  return next(name for name in STRATEGIES if role_of(name) is Role.REFERENCE)


def is_reference(family: str, options: Mapping[str, str]) -> bool:
  """Whether all others are compared with it."""
  return family == reference() and not options


def compared_with(family: str) -> tuple[str, ...]:
  """The strategies of the same options that it is compared with, beside the reference."""
  return tuple(getattr(STRATEGIES.get(family), "compared_with", ()))


def metric_label(metric: str) -> str:
  """'accuracy' of 'acc'; metrics that are not registered are called by their names."""
  return metric_of(metric).label


def strategy_label(strategy: str) -> str:
  """'qTTT, learning rate 0.0003' of 'qttt(learning_rate=0.0003)'."""
  return spec.label(STRATEGIES, *spec.taken_apart(strategy))


def task_label(task: str) -> str:
  """'bank log, amount' of 'bank_log(kind=amount)'."""
  return spec.label(TASKS, *spec.taken_apart(task))


def model_labels(models: Sequence[str]) -> dict[str, str]:
  """Each model's label: as few of the last parts of its path as tell them apart."""
  return dict(zip(models, short_names(models)))


def short_names(paths: Sequence[str]) -> list[str]:
  """The last parts of paths, as many as make equal paths' names the only equal ones."""
  parts = [pathlib.PurePath(path).parts or (path,) for path in paths]
  different = len(set(parts))
  for count in range(1, max(map(len, parts), default=1) + 1):
    names = ["/".join(p[-count:]) for p in parts]
    if len(set(names)) == different:
      break
  return names


def slug(text: str) -> str:
  """Letters, digits and single underscores: safe in file names and in the harness's task names."""
  return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
