"""What tells runs apart, in a few words: by their configurations, or else by their directories."""

from collections.abc import Mapping, Sequence
import os
import re
from typing import Any

from tttjax.report.labels import short_names

Config = Mapping[str, Any]

# Fields of config.json that name no choice of the user's.
_NOT_NAMING = ("workdir", "tensorboard", "git_hash", "grown")
# Fields that tables show anyway: they name runs only where the others do not tell them apart.
_SHOWN = ("models", "tasks", "lengths", "strategies")
_PATHS = ("models",)
# Characters that a label and a field's value have where fewer tell runs apart.
_LONGEST_LABEL = 60
_LONGEST_VALUE = 30


def run_labels(configs: Sequence[Config], paths: Sequence[str]) -> list[str]:
  """'steps=8, span=32' of each run.

  Args:
    configs: dotted field to value, of config.json, one per run.
    paths: their directories, which stand behind what several runs have in common.

  Returns:
    A different label for each run; '' for a single one.
  """
  if len(configs) == 1:
    return [""]
  texts = {
    name: _texts(name, [config.get(name) for config in configs]) for name in _different(configs)
  }
  directories = short_names(paths)
  if not texts:
    return directories
  calls = _calls(texts, configs)
  labels = [
    ", ".join(f"{calls[name]}={texts[name][i]}" for name in _naming(texts))
    for i in range(len(configs))
  ]
  return [
    label if labels.count(label) == 1 else f"{label} ({directory})"
    for label, directory in zip(labels, directories)
  ]


def _different(configs: Sequence[Config]) -> list[str]:
  """The fields that differ and name a choice."""
  return [
    name
    for name in dict.fromkeys(name for config in configs for name in config)
    if name not in _NOT_NAMING
    and not name.endswith("sha256")
    and any(config.get(name) != configs[0].get(name) for config in configs)
  ]


def _naming(texts: Mapping[str, Sequence[str]]) -> list[str]:
  """The fields of a label, of those that differ: fewer where it would be long."""
  apart = lambda names: len(set(zip(*(texts[name] for name in names))))
  names = [name for name in texts if name not in _SHOWN]
  for name in texts:
    if name in _SHOWN and apart([*names, name]) > apart(names):
      names.append(name)
  width = lambda name: len(f"{name}=, ") + max(map(len, texts[name]))
  for name in sorted(names, key=width, reverse=True):
    fewer = [other for other in names if other != name]
    if sum(map(width, names)) > _LONGEST_LABEL and apart(fewer) == apart(names):
      names = fewer
  return names


def _calls(names: Sequence[str], configs: Sequence[Config]) -> dict[str, str]:
  """'steps' of 'ttt.steps', unless another field ends so too."""
  leaf = lambda name: name.rpartition(".")[2]
  leaves = [leaf(name) for name in dict.fromkeys(name for config in configs for name in config)]
  return {name: leaf(name) if leaves.count(leaf(name)) == 1 else name for name in names}


def _texts(name: str, values: Sequence[Any]) -> list[str]:
  """A field's values, as short as tells them apart."""
  items = [list(value) if isinstance(value, (list, tuple)) else [value] for value in values]
  written = {repr(item): _text(item) for own in items for item in own}
  if name in _PATHS:
    written = dict(zip(written, short_names(list(written.values()))))
  whole = [" ".join(written[repr(item)] for item in own) for own in items]
  shorter = whole
  if any(isinstance(value, (list, tuple)) for value in values):
    shorter = [
      text if len(text) <= _LONGEST_VALUE else _own(own, items, written)
      for text, own in zip(whole, items)
    ]
  for width in (_LONGEST_VALUE, 2 * _LONGEST_VALUE, 4 * _LONGEST_VALUE):
    for some in (shorter, whole):
      cut = _cut(some, width)
      if len(set(cut)) == len(set(whole)):
        return cut
  return whole


def _own(items: Sequence[Any], every: Sequence[Sequence[Any]], written: Mapping[str, str]) -> str:
  """Of a long list, the items that not every run has."""
  own = [item for item in items if not all(item in others for others in every)]
  return "... " + " ".join(f"+{written[repr(item)]}" for item in own) if own else "the common ones"


def _cut(texts: Sequence[str], width: int) -> list[str]:
  """Long texts from where they begin to differ, up to so many characters."""
  long = {text for text in texts if len(text) > width}
  shared = os.path.commonprefix(list(long)) if len(long) > 1 else ""
  begin = len(re.match(r"(.*[\s/,(+])?", shared)[0])  # not within a word
  return [
    ("..." if begin else "")
    + text[begin : begin + width]
    + ("..." if len(text) > begin + width else "")
    if text in long
    else text
    for text in texts
  ]


def _text(value: Any) -> str:
  if isinstance(value, float):
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
  if isinstance(value, str):
    return repr(value)[1:-1] or "''"  # a line break would break a table
  return str(value)
