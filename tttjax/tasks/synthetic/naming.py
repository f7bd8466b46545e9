"""What lengths and examples of synthetic tasks are called."""

from tttjax import spec


def in_units(task, length: int, in_tokens: bool) -> str:
  """A length in words: '512 tokens', or in the unit of the task."""
  return f"{length} {'tokens' if in_tokens else task.unit}"


def example_key(task, length: int, in_tokens: bool, seed: int) -> str:
  """The name of an example: its task, the options that are not defaults, length and seed."""
  options = (f"{field}={value}" for field, value in spec.options_of(task).items())
  return "/".join((task.name, *options, in_units(task, length, in_tokens), str(seed)))
