"""Which configurations may add rows to a work directory that holds those of another one."""

from collections.abc import Mapping
import datetime
from typing import Any

# Lists that may get longer: every combination is a cell of its own.
_LISTS = ("models", "tasks", "lengths", "seeds", "strategies")
# Kept as they were when the run was begun, or made here.
_HISTORY = ("git_hash", "grown")
# How it is computed, which changes the rows by rounding or not at all: how many contexts at a time,
# and the attention's kernels.
_COMPUTED = ("mesh.data", "batch_contexts", "attention")
_ABSENT = "(absent)"

Settings = Mapping[str, Any]


def grown(old: Settings, new: Settings) -> tuple[dict[str, Any], list[str]]:
  """The settings of a work directory that is continued with others.

  Args:
    old, new: dotted field to JSON value, those of the directory and those asked for.

  Returns:
    (what to write down: `new` with the history of `old`, what forbids it in words: fields that
    differ, and lists that lack what was there, since rows are never left out).
  """
  added: dict[str, Any] = {}
  problems = []
  for name in {**old, **new}:
    before, now = old.get(name, _ABSENT), new.get(name, _ABSENT)
    if name in _HISTORY or before == now:
      continue
    if name in _LISTS and isinstance(before, list) and isinstance(now, list):
      gone = [item for item in before if item not in now]
      if gone:
        problems.append(f"{name}: {_shown(gone)} there and not now (a run may grow, not shrink)")
      added[name] = [item for item in now if item not in before]
    elif name == "contexts":
      problems += _fewer_contexts(old, new)
      added[name] = now
    elif name in _COMPUTED:
      added[name] = now
    elif name == "questions" and _is_count(before) and _is_count(now) and now > before:
      added[name] = now
    elif name == "checkpoint_sha256" and isinstance(before, dict) and isinstance(now, dict):
      changed = [model for model in before if now.get(model, before[model]) != before[model]]
      problems += [f"the files of the model {model} changed" for model in changed]
    else:
      problems.append(f"{name}: {_shown(before)} there, {_shown(now)} now")
  history = [*old.get("grown", [])]
  added = {name: value for name, value in added.items() if value != []}
  if added:
    now = datetime.datetime.now().isoformat(timespec="seconds")
    history.append({"date": now, "git_hash": new.get("git_hash"), "added": added})
  merged = {**new, "git_hash": old.get("git_hash")}
  return (merged | {"grown": history} if history else merged), problems


def _fewer_contexts(old: Settings, new: Settings) -> list[str]:
  """Lengths that now have fewer contexts than before, in words."""
  try:
    before, now = _contexts(old), _contexts(new)
  except (KeyError, TypeError, ValueError):
    return ["contexts: not one number, or one for each length"]
  return [
    f"contexts: {count} there, {now[length]} now at length {length} (a run may grow, not shrink)"
    for length, count in before.items()
    if now.get(length, count) < count
  ]


def _contexts(settings: Settings) -> dict[int, int]:
  numbers, lengths = settings["contexts"], settings["lengths"]
  return dict(zip(lengths, numbers * len(lengths) if len(numbers) == 1 else numbers, strict=True))


def _is_count(value: Any) -> bool:
  return type(value) is int


def _shown(value: Any) -> str:
  return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
