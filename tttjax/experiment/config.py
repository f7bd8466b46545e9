"""The fields of a run, their defaults and meaning, and every check that needs no weights."""

from collections.abc import Mapping
import dataclasses
import difflib
import math
from typing import Any

import jax
from ml_collections import config_dict

from tttjax import spec
from tttjax.checkpoint import NAMED_MODELS, Checkpoint, open_checkpoint
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.flags import fields
from tttjax.sharding import AXES, make_mesh
from tttjax.strategies import STRATEGIES, Strategy
from tttjax.tasks import TASKS
from tttjax.tasks.protocol import SyntheticTask
from tttjax.ttt.hyperparameters import TTTConfig

# A budget that is not given but solved for, so that thinking and qTTT cost the same FLOPs.
MATCHED = "matched"
# The paper's rule for the thinking budget, M = 2 N k.
PAPER = "paper"
_EMBEDDED = "embedded"
# With share_programs a program serves lengths from more than longest / this up to its longest.
SHARED_RANGE = 4
# Contexts of different seeds are different as long as there are no more per length and seed.
MOST_CONTEXTS = 100_000
_SMOKE_CONTEXTS, _SMOKE_QUESTIONS, _SMOKE_STEPS = 2, 2, 4

# name: (default, meaning). The default's type is the field's type.
_FIELDS = {
  "models": (
    (_EMBEDDED,),
    "checkpoint directories in Hugging Face's layout, .gguf files,"
    f" or names: {', '.join(NAMED_MODELS)}",
  ),
  "tasks": (("bank_log",), f"of: {', '.join(TASKS)}; with options such as bank_log(kind=amount)"),
  "unit": ("tokens", "of lengths: tokens, or native: the task's own (operations, lines)"),
  "lengths": ((256, 512, 1024, 2048), "context lengths"),
  "contexts": (
    (8,),
    "contexts per length and seed, one number or one per length; they are the"
    " clusters of every standard error",
  ),
  "questions": (6, "questions per context at most, answered after one adaptation"),
  "seeds": ((0,), "of contexts, questions, span sampling and decoding"),
  "strategies": (
    ("in_context", "thinking", "qttt", "qttt_other_context"),
    f"of: {', '.join(STRATEGIES)}; with options such as qttt(learning_rate=3e-4)",
  ),
  "ttt.steps": (32, f"N, steps of qTTT, or '{MATCHED}' to thinking.budget"),
  "ttt.span": (
    32,
    "k, tokens per step; with native units a shorter context takes the largest"
    " power of two that fits",
  ),
  "ttt.learning_rate": (1e-3, "1e-3 for the embedded model, 1e-6 to 1e-5 for real Qwen3"),
  "ttt.weight_decay": (0.01, "AdamW's, towards zero query kernels"),
  "ttt.clip": (1.0, "largest global gradient norm"),
  "ttt.schedule": ("constant", "of the learning rate: constant, linear or cosine"),
  "ttt.span_kv": ("frozen", "the span's own keys and values: frozen (the paper's) or recomputed"),
  "thinking.budget": (
    MATCHED,
    f"M, thinking tokens, '{MATCHED}' to ttt.steps by exact FLOPs, or '{PAPER}': 2 N k",
  ),
  "thinking.temperature": (0.0, "of thoughts and of the answer after them; 0 is greedy"),
  "thinking.top_k": (20, "likeliest tokens kept; 0 keeps all"),
  "thinking.top_p": (0.95, "probability mass kept; 1 keeps all"),
  "thinking.end": (
    "",
    "text that ends a thought; '': the model's own, </think>, or Final: where it has no such token",
  ),
  "thinking.forced_stop": (
    "",
    "text inserted where the budget is used up, the end marker in it; '': a short one",
  ),
  "thinking.opener": (
    "",
    "first words of a thought; '': none, or Let's think step by step. for a model without </think>",
  ),
  "sampling.max_new_tokens": (0, "longest answer, tokens; 0: as long as the question needs"),
  "sampling.temperature": (0.0, "of answers without thinking; 0 is greedy"),
  "sampling.top_k": (0, "likeliest tokens kept; 0 keeps all"),
  "sampling.top_p": (1.0, "probability mass kept; 1 keeps all"),
  "mechanism": (True, "measure what the attention does to the evidence"),
  "share_programs": (
    False,
    f"lengths up to {SHARED_RANGE} times apart and questions of all tasks share compiled programs:"
    " sooner done where compiling dominates, but only the longest of them are timed",
  ),
  "mesh.data": (1, "devices that split the batch of questions"),
  "mesh.fsdp": (1, "devices that split every weight, and the batch"),
  "mesh.tensor": (1, "devices that split heads, MLP and vocabulary"),
  "mesh.context": (1, "devices that split the context's keys and values"),
  "tensorboard": (False, "write metrics for TensorBoard too (pip install 'tttjax[tensorboard]')"),
  "smoke": (
    False,
    "check that it runs: the embedded model in place of files, the shortest length,"
    f" {_SMOKE_CONTEXTS} contexts, few steps",
  ),
  "workdir": ("runs/quickstart", "where samples, results, figures and report go"),
}
DESCRIPTIONS = {name: meaning for name, (_, meaning) in _FIELDS.items()}
# May be a number or a word, so ConfigDict does not hold them to one type.
_BUDGETS = {"ttt.steps": (MATCHED,), "thinking.budget": (MATCHED, PAPER)}


def default_config() -> config_dict.ConfigDict:
  """Every field at its default; locked, so that a misspelt field is an error."""
  config = config_dict.ConfigDict()
  for name, (default, _) in _FIELDS.items():
    *parents, leaf = name.split(".")
    node = config
    for parent in parents:
      if parent not in node:
        node[parent] = config_dict.ConfigDict()
      node = node[parent]
    node[leaf] = (
      config_dict.FieldReference(default, field_type=object) if name in _BUDGETS else default
    )
  return config.lock()


@dataclasses.dataclass(frozen=True)
class Plan:
  """A checked config.

  Attributes:
    config: the fields, reduced where config.smoke says so.
    models: checkpoints, opened and not loaded, by the name that config and rows use.
    tasks, strategies: by canonical spec.
    mesh: config.mesh, or None where all of its sizes are 1.
  """

  config: config_dict.ConfigDict
  models: Mapping[str, Checkpoint]
  tasks: Mapping[str, SyntheticTask]
  strategies: Mapping[str, Strategy]
  mesh: jax.sharding.Mesh | None

  @property
  def in_tokens(self) -> bool:
    return self.config.unit == "tokens"

  def contexts(self, length: int) -> int:
    """Contexts of `length` for each seed."""
    numbers = self.config.contexts
    return numbers[self.config.lengths.index(length)] if len(numbers) > 1 else numbers[0]

  def ttt(self, steps: int, span: int) -> TTTConfig:
    """The optimizer's settings with N = `steps` and k = `span`."""
    return dataclasses.replace(_ttt(self.config, steps), span=span)


def check(config: config_dict.ConfigDict) -> Plan:
  """Checks the whole config before anything is loaded.

  Raises:
    UserError: names the first field that is wrong, and the remedy.
  """
  _check_fields(config)
  config = _smoke_sizes(config) if config.smoke else config
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
  positive = ("contexts", "lengths", "questions")
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
  tasks = _parse("tasks", config.tasks, TASKS)
  strategies = _parse("strategies", config.strategies, STRATEGIES)
  if config.smoke:
    config = _smoke_steps(config, strategies.values())
  for name, task in tasks.items():
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
  models = {name: _checkpoint(name) for name in config.models}
  for name, checkpoint in models.items():
    limit = checkpoint.config.max_positions
    if config.unit == "tokens" and max(config.lengths) > limit:
      raise UserError(
        f"config.lengths: {max(config.lengths)} tokens exceed the model's {limit} positions"
        f" (config.json of {name}); use shorter contexts, or configure YaRN there"
      )
  sizes = config.mesh.to_dict()
  try:
    mesh = make_mesh(**sizes) if math.prod(sizes.values()) > 1 else None
  except UserError as error:
    raise UserError(f"config.mesh: {error}") from None
  return Plan(config, models, tasks, strategies, mesh)


def _checkpoint(name: str) -> Checkpoint:
  try:
    return open_checkpoint(name)
  except UserError as error:
    raise UserError(f"config.models: {error}") from None


def _smoke_sizes(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
  """The same run, as small as it may be with its budgets kept.

  Models that are named are here, or quickly said not to be; the embedded one stands in for files.
  """
  reduced = config.copy_and_resolve_references()
  reduced.workdir = f"{config.workdir}-smoke"
  named = [name for name in config.models if name in NAMED_MODELS]
  reduced.models = tuple(named) or (_EMBEDDED,)
  reduced.lengths = (min(config.lengths),)
  reduced.contexts = (_SMOKE_CONTEXTS,)
  reduced.questions = min(config.questions, _SMOKE_QUESTIONS)
  reduced.seeds = config.seeds[:1]
  reduced.share_programs = True
  return reduced


def _smoke_steps(config: config_dict.ConfigDict, strategies) -> config_dict.ConfigDict:
  """Few steps, unless thoughts are matched to them: those would have no token."""
  thinks = any(getattr(strategy, "thinks", False) for strategy in strategies)
  if thinks or config.ttt.steps == MATCHED:
    return config
  reduced = config.copy_and_resolve_references()
  reduced.ttt.steps = min(config.ttt.steps, _SMOKE_STEPS)
  return reduced


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


def _check_fields(config: config_dict.ConfigDict) -> None:
  """Exactly the fields of `default_config`, of their types: a config file may build its own."""
  values = dict(fields(config))
  for name in values:
    if name not in _FIELDS:
      close = difflib.get_close_matches(name, _FIELDS, n=1)
      hint = f"did you mean config.{close[0]}?" if close else "start from default_config()"
      raise UserError(f"config.{name}: no such field; {hint}")
  for name, (default, _) in _FIELDS.items():
    if name not in values:
      raise UserError(f"config.{name} is missing; start from tttjax.experiment.default_config()")
    value = values[name]
    if name in _BUDGETS:
      if value not in _BUDGETS[name] and (type(value) is not int or value < 0):
        words = " or ".join(map(repr, _BUDGETS[name]))
        raise UserError(f"config.{name}={value!r}: give a whole number, or {words}")
    elif isinstance(default, tuple):
      kind = type(default[0])
      if not isinstance(value, (tuple, list)) or any(type(item) is not kind for item in value):
        raise UserError(f"config.{name}={value!r}: give a list of {kind.__name__}")
    elif type(value) is not type(default):
      raise UserError(
        f"config.{name}={value!r} must be {type(default).__name__}, such as {default!r}"
      )


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
