"""A run's config, checked as far as that needs neither weights nor devices."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from ml_collections import config_dict

from tttjax import spec
from tttjax.attention.backends import check_attention
from tttjax.checkpoint import Checkpoint, open_checkpoint
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.experiment import smoke
from tttjax.experiment.contexts import MOST_CONTEXTS, Contexts, contexts_of
from tttjax.experiment.run_fields import MATCHED, check_fields
from tttjax.flags import fields
from tttjax.sharding import AXES
from tttjax.strategies import STRATEGIES, Strategy
from tttjax.tasks import TASKS
from tttjax.tasks.protocol import Task, reads_documents
from tttjax.ttt.hyperparameters import TTTConfig


@dataclasses.dataclass(frozen=True)
class Plan:
  """A checked config.

  Attributes:
    config: the fields, reduced where config.smoke says so.
    models: checkpoints, opened and not loaded, by the name that config and rows use.
    tasks, strategies: by canonical spec.
    contexts: of each task.
  """

  config: config_dict.ConfigDict
  models: Mapping[str, Checkpoint]
  tasks: Mapping[str, Task]
  contexts: Mapping[str, Contexts]
  strategies: Mapping[str, Strategy]

  @property
  def in_tokens(self) -> bool:
    return self.config.unit == "tokens"

  def number(self, task: str, length: int) -> int:
    """Contexts of `length` for each seed."""
    numbers = self.config.contexts
    wanted = numbers[self.config.lengths.index(length)] if len(numbers) > 1 else numbers[0]
    return self.contexts[task].number(wanted)

  def ttt(self, steps: int, span: int) -> TTTConfig:
    """The optimizer's settings with N = `steps` and k = `span`."""
    return dataclasses.replace(_ttt(self.config, steps), span=span)


def check(config: config_dict.ConfigDict) -> Plan:
  """Checks the whole config before anything is loaded.

  Raises:
    UserError: names the first field that is wrong, and the remedy.
  """
  check_fields(config)
  config = smoke.sized(config) if config.smoke else config
  for name in ("models", "tasks", "lengths", "contexts", "seeds", "strategies"):
    if not config[name]:
      raise UserError(f"config.{name} is empty; give at least one value")
  for name in ("models", "lengths", "seeds"):
    _check_distinct(name, config[name])
  if config.unit not in ("tokens", "native"):
    raise UserError(f"config.unit={config.unit!r}: choose tokens or native")
  if len(config.contexts) not in (1, len(config.lengths)):
    raise UserError(
      f"config.contexts has {len(config.contexts)} numbers for {len(config.lengths)} lengths;"
      " give one, or one per length"
    )
  positive = ("contexts", "lengths", "questions", "batch_contexts")
  for name in positive + tuple(f"mesh.{axis}" for axis in AXES):
    _at_least(config, name, 1)
  if max(config.contexts) > MOST_CONTEXTS:
    raise UserError(
      f"config.contexts: {max(config.contexts)} must be at most {MOST_CONTEXTS}; use more"
      " config.seeds for more contexts"
    )
  _at_least(config, "seeds", 0)
  if max(config.seeds) >= 1 << 31:
    raise UserError(f"config.seeds: {max(config.seeds)} must be below 2^31")
  _at_least(config, "sampling.max_new_tokens", 0)
  _check_sampling(config)
  try:
    check_attention(config.attention)
  except UserError as error:
    raise UserError(f"config.{error}") from None
  tasks = _parse("tasks", config.tasks, TASKS)
  strategies = _parse("strategies", config.strategies, STRATEGIES)
  for name, task in tasks.items():
    if reads_documents(task):
      continue
    if 1 < task.most_questions < config.questions:
      raise UserError(
        f"config.questions={config.questions}: {name} has at most {task.most_questions} in a"
        " context; ask fewer, or give it more (a log's option needles)"
      )
    for length in config.lengths:
      try:
        task.check(length, config.unit == "tokens")
      except UserError as error:
        raise UserError(f"config.tasks: {error}") from None
  longest = smoke.ANSWER_TOKENS if config.smoke else None
  contexts = {
    name: contexts_of(task, config.data, config.unit == "tokens", longest)
    for name, task in tasks.items()
  }
  for name, strategy in strategies.items():
    for task, own in contexts.items():
      if getattr(strategy, "trains_elsewhere", False) and own.other(0) is None:
        raise UserError(
          f"config.strategies: {name} trains on another context, and {task} has one; leave it out,"
          " or give more documents"
        )
  models = {name: _checkpoint(name, config) for name in config.models}
  for name, checkpoint in models.items():
    limit = checkpoint.config.max_positions
    made = not all(map(reads_documents, tasks.values()))  # documents are cut
    if made and config.unit == "tokens" and max(config.lengths) > limit:
      raise UserError(
        f"config.lengths: {max(config.lengths)} tokens exceed the model's {limit} positions"
        f" (config.json of {name}); use shorter contexts, or give config.yarn.factor"
      )
  return Plan(config, models, tasks, contexts, strategies)


def _checkpoint(name: str, config: config_dict.ConfigDict) -> Checkpoint:
  checkpoint = _opened(name, config.models)
  if not config.yarn.factor:
    return checkpoint
  try:
    return checkpoint.extended(config.yarn.factor, config.yarn.original)
  except UserError as error:
    raise UserError(
      f"config.yarn: {name}: {error}; --config.yarn.factor=0 runs it without YaRN"
    ) from None


def _opened(name: str, names: Sequence[str]) -> Checkpoint:
  try:
    return open_checkpoint(name)
  except UserError as error:
    hint = ""
    if len(names) > 1 and "no such" in str(error):
      hint = """; a path with a comma is given in quotes of its own: --config.models='"PATH"'"""
    raise UserError(f"config.models: {error}{hint}") from None


def _parse(field: str, texts, registry) -> dict[str, Any]:
  """Objects by canonical spec."""
  named = []
  for text in texts:
    try:
      named.append(spec.parse(text, registry, f"config.{field}"))
    except UserError as error:
      reason = str(error).removeprefix(f"config.{field}: ").replace("TTTConfig.", "")
      named_in = text if text not in reason else None
      raise UserError(": ".join(filter(None, (f"config.{field}", named_in, reason)))) from None
  texts = [spec.canonical(one, registry) for one in named]
  _check_distinct(field, texts)
  return dict(zip(texts, named))


def _ttt(config: config_dict.ConfigDict, steps: int) -> TTTConfig:
  names = [field.name for field in dataclasses.fields(TTTConfig) if field.name in config.ttt]
  values = {name: config.ttt[name] for name in names}
  return TTTConfig(**{**values, "steps": steps})


def _check_distinct(name: str, values) -> None:
  if len(set(values)) < len(values):
    raise UserError(f"config.{name} names a value twice; remove one")


def _at_least(config: config_dict.ConfigDict, name: str, least: int) -> None:
  value = dict(fields(config))[name]
  for number in value if isinstance(value, (tuple, list)) else (value,):
    if number < least:
      raise UserError(f"config.{name}: {number} must be at least {least}")


def _check_sampling(config: config_dict.ConfigDict) -> None:
  """What TTTConfig and SamplingConfig refuse, with the config's name of the field."""
  if config.ttt.steps == MATCHED and type(config.thinking.budget) is not int:
    raise UserError(
      f"config.ttt.steps is '{MATCHED}' to config.thinking.budget={config.thinking.budget!r};"
      " give one of them as a number"
    )
  texts = ("budget", "end", "forced_stop", "opener")
  thinking = {k: v for k, v in config.thinking.items() if k not in texts}
  for group, build in (
    ("ttt", lambda: _ttt(config, 0)),
    ("sampling", lambda: SamplingConfig(**{**config.sampling, "max_new_tokens": 1})),
    ("thinking", lambda: SamplingConfig(**thinking)),
  ):
    try:
      build()
    except UserError as error:
      text = str(error).replace("TTTConfig.", "").replace("SamplingConfig.", "")
      raise UserError(f"config.{group}.{text}") from None
