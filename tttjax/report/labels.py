"""How tables, figures and reports call strategies, tasks, models and numbers."""

from collections.abc import Mapping, Sequence
import math
import pathlib
import re
from typing import Any

from tttjax import spec
from tttjax.report.statistics import Estimate
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


# Fields of config.json that name no choice of the user's.
_NOT_NAMING = ("workdir", "tensorboard", "git_hash")
# Fields that tables show anyway: they name runs only where nothing else differs.
_SHOWN = ("models", "tasks", "lengths", "strategies")
_LONGEST_RUN_LABEL = 60  # characters; beyond it the path says more
_LONGEST_LIST = 30


def run_labels(configs: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> list[str]:
  """What tells runs apart: 'steps=8, span=32' by their configs, or else by their paths.

  Args:
    configs: dotted field to value, of config.json, one per run.
    paths: their directories.

  Returns:
    A different label for each run; '' for a single one.
  """
  if len(configs) == 1:
    return [""]
  fields = dict.fromkeys(name for config in configs for name in config)
  different = [
    name
    for name in fields
    if name not in _NOT_NAMING
    and not name.endswith("sha256")
    and any(config.get(name) != configs[0].get(name) for config in configs)
  ]
  different = [name for name in different if name not in _SHOWN] or different
  leaves = [name.rpartition(".")[2] for name in fields]
  calls = {
    name: leaf if leaves.count(leaf) == 1 else name
    for name in different
    for leaf in [name.rpartition(".")[2]]
  }
  labels = [
    ", ".join(f"{calls[n]}={_setting(n, config, configs)}" for n in different) for config in configs
  ]
  names = short_names(paths)
  if not different or max(map(len, labels)) > _LONGEST_RUN_LABEL:
    return names
  return [
    label if labels.count(label) == 1 else f"{label} ({name})" for label, name in zip(labels, names)
  ]


def _setting(name: str, config: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]) -> str:
  """A field's value; of a long list, the items that not every run has."""
  value = config.get(name)
  if not isinstance(value, (list, tuple)):
    return _value(value)
  text = " ".join(map(_value, value))
  if len(text) <= _LONGEST_LIST:
    return text
  own = [item for item in value if not all(item in (c.get(name) or ()) for c in configs)]
  return "... " + " ".join(f"+{_value(item)}" for item in own) if own else "the common ones"


def _value(value: Any) -> str:
  if isinstance(value, float):
    return f"{value:g}"
  return pathlib.PurePath(value).name if isinstance(value, str) and "/" in value else str(value)


def slug(text: str) -> str:
  """Letters, digits and single underscores: safe in file names and in the harness's task names."""
  return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")


def count(number: int, noun: str) -> str:
  """'1 context', '2 contexts'."""
  return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plus_minus(estimate: Estimate, sign: str = "", places: int = 3) -> str:
  """'0.812 +- 0.031'; without a standard error where there is none."""
  if math.isnan(estimate.mean):
    return "n/a"
  error = "" if math.isnan(estimate.stderr) else f" +- {estimate.stderr:.{places}f}"
  mean = f"{estimate.mean:{sign}.{places}f}"
  if float(mean) == 0:  # no '-0.000'
    mean = f"{0.0:{sign}.{places}f}"
  return mean + error


def p_text(value: float) -> str:
  """A p-value to three places; never 0.000, which no permutation test gives."""
  if math.isnan(value):
    return "n/a"
  return f"{value:.3f}" if value >= 0.001 else "<0.001"


def scientific(value: float) -> str:
  """'1.23e9', or '' where there is no number."""
  return f"{value:.2e}".replace("e+0", "e").replace("e+", "e") if math.isfinite(value) else ""
