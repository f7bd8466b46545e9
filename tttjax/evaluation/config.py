"""The fields of a run, their defaults and meaning, and every check that needs no weights."""

import dataclasses
import difflib
import math
import pathlib
from types import ModuleType

import jax
from ml_collections import config_dict

from tttjax import flops
from tttjax.cache import round_capacity
from tttjax.checkpoint.config_json import read_config
from tttjax.checkpoint.safetensors_index import open_checkpoint
from tttjax.decode.config import SamplingConfig
from tttjax.embedded import EMBEDDED
from tttjax.errors import UserError
from tttjax.flags import fields
from tttjax.qwen3.config import Qwen3Config
from tttjax.sharding import AXES, make_mesh
from tttjax.strategies import STRATEGIES
from tttjax.tasks import bank_log
from tttjax.ttt.config import TTTConfig

TASKS: dict[str, ModuleType] = {'bank_log': bank_log}

# A budget that is not given but solved for, so that thinking and qTTT cost the same FLOPs.
MATCHED = 'matched'
# Suffix tokens assumed where no tokenizer is loaded yet; prompts of the tasks are shorter.
_PROMPT_TOKENS = 64
_SHORTEST_CONTEXT = 128
# With share_programs a program serves lengths from more than longest / this up to its longest.
_SHARED_RANGE = 4

# name: (default, meaning). The default's type is the field's type.
_FIELDS = {
    'model': ('embedded', "checkpoint directory in Hugging Face's layout, or 'embedded'"),
    'seed': (0, 'of contexts, questions, span sampling and decoding'),
    'workdir': ('runs/quickstart', 'where samples, results, figures and report go'),
    'task.name': ('bank_log', f'one of: {", ".join(TASKS)}'),
    'task.kind': ('balance', f'what is asked; of bank_log: {", ".join(bank_log.KINDS)}'),
    'lengths': ((256, 512, 1024, 2048), 'context lengths, tokens'),
    'contexts': (8, 'contexts per length; they are the clusters of every standard error'),
    'questions': (6, 'questions per context, answered after one adaptation'),
    'strategies': (tuple(STRATEGIES), f'of: {", ".join(STRATEGIES)}'),
    'ttt.steps': (32, f"N, steps of qTTT, or '{MATCHED}' to thinking.budget"),
    'ttt.span': (32, 'k, tokens per step'),
    'ttt.learning_rate': (1e-3, '1e-3 for the embedded model, 1e-6 to 1e-5 for real Qwen3'),
    'ttt.weight_decay': (0.01, "AdamW's, towards zero query kernels"),
    'ttt.clip': (1.0, 'largest global gradient norm'),
    'ttt.schedule': ('constant', 'of the learning rate: constant, linear or cosine'),
    'ttt.span_kv': ('frozen', "the span's own keys and values: frozen (the paper's) or recomputed"),
    'thinking.budget': (MATCHED, f"M, thinking tokens, or '{MATCHED}' to ttt.steps"),
    'thinking.temperature': (0.6, 'of thoughts and of the answer after them; 0 is greedy'),
    'thinking.top_k': (20, 'likeliest tokens kept; 0 keeps all'),
    'thinking.top_p': (0.95, 'probability mass kept; 1 keeps all'),
    'thinking.forced_stop': (bank_log.FORCED_STOP, 'text inserted where the budget is used up'),
    'sampling.max_new_tokens': (16, 'longest answer, tokens'),
    'sampling.temperature': (0.0, 'of answers without thinking; 0 is greedy'),
    'sampling.top_k': (0, 'likeliest tokens kept; 0 keeps all'),
    'sampling.top_p': (1.0, 'probability mass kept; 1 keeps all'),
    'share_programs': (
        False, 'lengths up to four times apart share compiled programs: sooner done where'
        ' compiling dominates, but seconds are those of the longest'),
    'mesh.data': (1, 'devices that split the batch of questions'),
    'mesh.fsdp': (1, 'devices that split every weight, and the batch'),
    'mesh.tensor': (1, 'devices that split heads, MLP and vocabulary'),
    'mesh.context': (1, "devices that split the context's keys and values"),
    'mechanism': (True, 'measure the attention mass on the evidence'),
}
DESCRIPTIONS = {name: meaning for name, (_, meaning) in _FIELDS.items()}
# May be a number or MATCHED, so ConfigDict does not hold them to one type.
_BUDGETS = ('ttt.steps', 'thinking.budget')


def default_config() -> config_dict.ConfigDict:
  """Every field at its default; locked, so that a misspelt field is an error."""
  config = config_dict.ConfigDict()
  for name, (default, _) in _FIELDS.items():
    *parents, leaf = name.split('.')
    node = config
    for parent in parents:
      if parent not in node:
        node[parent] = config_dict.ConfigDict()
      node = node[parent]
    node[leaf] = (
        config_dict.FieldReference(default, field_type=object) if name in _BUDGETS else default)
  return config.lock()


@dataclasses.dataclass(frozen=True)
class Plan:
  """A checked config.

  Attributes:
    config: the fields.
    checkpoint: the model's directory.
    architecture: read from its config.json.
    task: module with make_example(seed, length, tokenizer, questions, kind) and
      score_answer(text, question).
    mesh: config.mesh, or None where all of its sizes are 1.
  """

  config: config_dict.ConfigDict
  checkpoint: pathlib.Path
  architecture: Qwen3Config
  task: ModuleType
  mesh: jax.sharding.Mesh | None

  @property
  def task_name(self) -> str:
    return f'{self.config.task.name}_{self.config.task.kind}'

  def capacity(self, length: int) -> int:
    """Cache slots for contexts of `length` tokens; equal capacities share compiled programs."""
    if not self.config.share_programs:
      return round_capacity(length, self.config.mesh.context)
    longest = max(self.config.lengths)
    while length * _SHARED_RANGE <= longest:
      longest = max(n for n in self.config.lengths if n * _SHARED_RANGE <= longest)
    return round_capacity(longest, self.config.mesh.context)

  def ttt(self, steps: int) -> TTTConfig:
    """The optimizer's settings with N = `steps`."""
    return _ttt(self.config, steps)


def check(config: config_dict.ConfigDict) -> Plan:
  """Checks the whole config before anything is loaded.

  Raises:
    UserError: names the first field that is wrong, and the remedy.
  """
  _check_fields(config)
  task = TASKS[_choice('task.name', config.task.name, TASKS)]
  _choice('task.kind', config.task.kind, task.KINDS)
  for name in config.strategies:
    _choice('strategies', name, STRATEGIES)
  _check_list('strategies', config.strategies)
  _check_list('lengths', config.lengths)
  positive = ('contexts', 'questions', 'sampling.max_new_tokens')
  for name in positive + tuple(f'mesh.{axis}' for axis in AXES):
    _at_least(config, name, 1)
  _at_least(config, 'seed', 0)
  for length in config.lengths:
    if length < _SHORTEST_CONTEXT:
      raise UserError(
          f'config.lengths: {length} is too short for a log and its header; use at least'
          f' {_SHORTEST_CONTEXT}')
  _check_budgets(config)
  shortest = min(config.lengths)
  if config.ttt.span + 1 >= shortest:
    raise UserError(
        f'config.ttt.span={config.ttt.span} does not fit the shortest context of {shortest}'
        f' tokens; use less than {shortest - 1} or longer config.lengths')

  checkpoint = EMBEDDED if config.model == 'embedded' else pathlib.Path(config.model)
  try:
    architecture = read_config(checkpoint)
    open_checkpoint(checkpoint, architecture)  # reads the headers only
  except UserError as error:
    raise UserError(f'config.model: {error}') from None
  sizes = config.mesh.to_dict()
  try:
    mesh = make_mesh(**sizes) if math.prod(sizes.values()) > 1 else None
  except UserError as error:
    raise UserError(f'config.mesh: {error}') from None
  plan = Plan(config, checkpoint, architecture, task, mesh)
  _check_positions(plan)
  return plan


def budgets(
    plan: Plan, num_tokens: int, prompt_tokens: int
) -> tuple[int, int]:
  """(N, M) for a context of `num_tokens`: what the config gives, and what is matched to it.

  Every question is charged the whole adaptation, as in the paper.
  """
  config, span_kv = plan.config, plan.config.ttt.span_kv
  answer = config.sampling.max_new_tokens
  steps, thinking = config.ttt.steps, config.thinking.budget
  sizes = plan.architecture, num_tokens, prompt_tokens, config.ttt.span
  if thinking == MATCHED:
    thinking = flops.match_thinking_tokens(*sizes, steps, answer, span_kv=span_kv)
  if steps == MATCHED:
    steps = flops.match_steps(*sizes, thinking, answer, span_kv=span_kv)
  return steps, thinking


def _ttt(config: config_dict.ConfigDict, steps: int) -> TTTConfig:
  names = [field.name for field in dataclasses.fields(TTTConfig) if field.name in config.ttt]
  values = {name: config.ttt[name] for name in names}
  return TTTConfig(**{**values, 'steps': steps})


def _check_fields(config: config_dict.ConfigDict) -> None:
  """Exactly the fields of `default_config`, of their types: a config file may build its own."""
  values = dict(fields(config))
  for name in values:
    if name not in _FIELDS:
      close = difflib.get_close_matches(name, _FIELDS, n=1)
      hint = f'did you mean config.{close[0]}?' if close else 'start from default_config()'
      raise UserError(f'config.{name}: no such field; {hint}')
  for name, (default, _) in _FIELDS.items():
    if name not in values:
      raise UserError(f'config.{name} is missing; start from tttjax.evaluation.default_config()')
    value = values[name]
    if name in _BUDGETS:
      if value != MATCHED and (type(value) is not int or value < 0):
        raise UserError(f"config.{name}={value!r}: give a whole number, or '{MATCHED}'")
    elif isinstance(default, tuple):
      kind = type(default[0])
      if not isinstance(value, (tuple, list)) or any(type(item) is not kind for item in value):
        raise UserError(f'config.{name}={value!r}: give a list of {kind.__name__}')
    elif type(value) is not type(default):
      raise UserError(
          f'config.{name}={value!r} must be {type(default).__name__}, such as {default!r}')


def _choice(name: str, value: str, choices) -> str:
  if value not in choices:
    close = difflib.get_close_matches(value, list(choices), n=1)
    hint = f'did you mean {close[0]!r}? ' if close else ''
    raise UserError(f'config.{name}: unknown {value!r}; {hint}choose from {", ".join(choices)}')
  return value


def _check_list(name: str, values) -> None:
  if not values:
    raise UserError(f'config.{name} is empty; give at least one value')
  if len(set(values)) < len(values):
    raise UserError(f'config.{name} names a value twice; remove one')


def _at_least(config: config_dict.ConfigDict, name: str, least: int) -> None:
  value = dict(fields(config))[name]
  if value < least:
    raise UserError(f'config.{name}={value} must be at least {least}')


def _check_budgets(config: config_dict.ConfigDict) -> None:
  """What TTTConfig and SamplingConfig refuse, with the config's name of the field."""
  if config.ttt.steps == MATCHED and config.thinking.budget == MATCHED:
    raise UserError(
        f"config.ttt.steps and config.thinking.budget are both '{MATCHED}'; give one as a number")
  if not config.thinking.forced_stop.endswith('</think>'):
    raise UserError("config.thinking.forced_stop must end with '</think>'")
  thinking = {k: v for k, v in config.thinking.items() if k not in ('budget', 'forced_stop')}
  for group, build in (
      ('ttt', lambda: _ttt(config, 0)),
      ('sampling', lambda: SamplingConfig(**config.sampling)),
      ('thinking', lambda: SamplingConfig(**thinking))):
    try:
      build()
    except UserError as error:
      text = str(error).replace('TTTConfig.', '').replace('SamplingConfig.', '')
      raise UserError(f'config.{group}.{text}') from None


def _check_positions(plan: Plan) -> None:
  config, limit = plan.config, plan.architecture.max_position_embeddings
  for length in config.lengths:
    _, thinking = budgets(plan, length, _PROMPT_TOKENS)
    after = _PROMPT_TOKENS + config.sampling.max_new_tokens
    if length + after > limit:
      raise UserError(
          f'config.lengths: {length} tokens of context and {after} of question and answer exceed'
          f" the model's {limit} positions (max_position_embeddings in config.json); use shorter"
          ' contexts')
    if 'thinking' in config.strategies and length + after + thinking > limit:
      raise UserError(
          f'config.thinking.budget: {thinking} thinking tokens after a context of {length} exceed'
          f" the model's {limit} positions; lower config.ttt.steps or config.thinking.budget, or"
          ' use shorter config.lengths')
