"""How tables, figures and reports call strategies, tasks, models and numbers."""

from collections.abc import Sequence
import math
import pathlib
import re

from tttjax import spec
from tttjax.report.statistics import Estimate

BASELINE = "in_context"
CONTROL = "qttt_other_context"

_NAMES = {
  BASELINE: "in-context",
  "thinking": "thinking",
  "qttt": "qTTT",
  CONTROL: "qTTT on another context (control)",
  "qttt_thinking": "qTTT, then thinking",
  "self_consistency": "self-consistency",
  "beam": "beam search",
  "full_ttt": "full-parameter TTT",
  "log_temperature": "log-length temperature (control)",
}
# Options whose plain "name value" would not explain itself.
_OPTIONS = {
  ("rope", "off"): "RoPE off",
  ("spans", "oracle"): "oracle spans (control)",
  ("span_kv", "recomputed"): "span keys recomputed",
  ("question", "before"): "question encoded before",
}
_SAMPLED = {"self_consistency": "samples", "beam": "beams"}
_COUNTED = {"steps": ("step", "steps")}


def family_of(strategy: str) -> str:
  """'qttt' of 'qttt(steps=8)'."""
  return strategy.partition("(")[0].strip()


def options_of(strategy: str) -> dict[str, str]:
  """{'steps': '8'} of 'qttt(steps=8)'."""
  _, _, inside = strategy.strip().partition("(")
  pairs = (item.partition("=") for item in spec.split(inside.removesuffix(")")))
  return {name.strip(): value.strip() for name, _, value in pairs}


def strategy_label(strategy: str) -> str:
  """'qTTT, learning rate 0.0003' of 'qttt(learning_rate=0.0003)'."""
  family = family_of(strategy)
  parts = [_NAMES.get(family, family.replace("_", " "))]
  for name, value in options_of(strategy).items():
    if (name, value) in _OPTIONS:
      parts.append(_OPTIONS[name, value])
    elif name == "n" and family in _SAMPLED:
      parts.append(f"{value} {_SAMPLED[family]}")
    elif name in _COUNTED:
      parts.append(f"{value} {_COUNTED[name][value != '1']}")
    elif name == "stretch":
      parts.append(f"stretched to {value}")
    else:
      parts.append(f"{name.replace('_', ' ')} {value}")
  return ", ".join(parts)


def task_label(task: str) -> str:
  """'bank log, kind amount' of 'bank_log(kind=amount)'."""
  parts = [family_of(task).replace("_", " ")]
  parts += [f"{name.replace('_', ' ')} {value}" for name, value in options_of(task).items()]
  return ", ".join(parts)


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
