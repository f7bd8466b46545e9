"""What each strategy and task of the report is, in their own words."""

from collections.abc import Iterable
import dataclasses

from tttjax import spec
from tttjax.strategies import STRATEGIES
from tttjax.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class Described:
  """A strategy's or a task's label and description, and those of its options that occur."""

  label: str
  description: str
  options: tuple[str, ...]


def strategies(specs: Iterable[str]) -> list[Described]:
  """Of every strategy that has something to say of itself, in order."""
  return _described(specs, STRATEGIES)


def tasks(specs: Iterable[str]) -> list[Described]:
  """Of every task that has something to say of itself, in order."""
  return _described(specs, TASKS)


def _described(specs: Iterable[str], registry) -> list[Described]:
  options: dict[str, dict[str, None]] = {}
  for name, used in map(spec.taken_apart, specs):
    options.setdefault(name, {}).update(dict.fromkeys(used))
  found, said = [], set()
  for name, used in options.items():
    kind = registry.get(name)
    if kind is None:
      continue
    texts = {f.name: f.metadata.get("description", "") for f in dataclasses.fields(kind)}
    own = tuple(t for option in used if (t := texts.get(option)) and t not in said)
    said.update(own)  # what strategies share is said once
    description = getattr(kind, "description", "")
    if description or own:
      found.append(Described(spec.label(registry, name, {}), description, own))
  return found
