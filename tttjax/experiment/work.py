"""What a run has to do: its examples as token ids, and what each strategy may spend on them.

All of it is made before any weights are loaded, so that what cannot work is said at once.
"""

import dataclasses
import json
import pathlib

from tttjax.attention.caches import round_capacity
from tttjax.checkpoint import load_tokenizer
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.experiment import allowances
from tttjax.experiment.config import SHARED_RANGE, Plan
from tttjax.session import encode, make_case
from tttjax.strategies.strategy import Allowance, Case, Decoding
from tttjax.tasks.example import Example

# Contexts of different config seeds are different as long as there are fewer per length.
_SEED_STRIDE = 100_003
# Matched thinking budgets differ by a few tokens; one output size serves a program's contexts.
_SIZE_MULTIPLE = 64


@dataclasses.dataclass(frozen=True)
class Item:
  """One context of a run: a model reads it with every strategy.

  Attributes:
    model, task: the names that rows use.
    seed, length, context: of the config; context counts from 0 within (seed, length).
    case: the example as token ids.
    allowances: by strategy.
    errors: by strategy, instead of an allowance: why it cannot be run on this example.
  """

  model: str
  task: str
  seed: int
  length: int
  context: int
  case: Case
  allowances: dict[str, Allowance]
  errors: dict[str, str]


@dataclasses.dataclass(frozen=True)
class ModelWork:
  """All contexts for one model, its tokenizer, and how its strategies decode.

  Attributes:
    tokenizer: of the checkpoint.
    items: tasks outermost, then lengths, seeds, contexts.
    decoding: by (strategy, capacity): sampling without the thinking budget of the single context.
  """

  tokenizer: object
  items: list[Item]
  decoding: dict[tuple[str, int], Decoding]

  def decoding_of(self, strategy: str, item: Item) -> Decoding:
    """How `strategy` decodes on this context."""
    general = self.decoding[strategy, item.case.capacity]
    tokens = item.allowances[strategy].thinking_tokens
    if tokens is None:
      return general
    # The inserted tokens are charged too, so they are part of M.
    within = tokens - len(general.thinking.forced_stop_ids)
    return dataclasses.replace(
      general, thinking=dataclasses.replace(general.thinking, thinking_budget=within)
    )


def prepare(plan: Plan) -> dict[str, ModelWork]:
  """The work for every model of the plan.

  Raises:
    UserError: a budget, a span or a length that cannot work.
  """
  return {name: _model_work(plan, name) for name in plan.models}


def estimate(plan: Plan) -> allowances.Estimate:
  """FLOPs and rows of a run; lengths in a task's own unit are measured on one example."""
  tokenizers = {}

  def context_tokens(name: str, task: str, length: int) -> int:
    if plan.in_tokens:
      return length
    if name not in tokenizers:
      tokenizers[name] = load_tokenizer(plan.models[name].checkpoint)
    return _example(plan, task, plan.config.seeds[0], length, 0, tokenizers[name]).num_tokens

  return allowances.estimate(plan, context_tokens)


def _example(plan: Plan, task: str, seed: int, length: int, index: int, tokenizer) -> Example:
  """Seeds are those of (seed, index): the same needles in haystacks that grow with the length."""
  example = plan.tasks[task].at(seed * _SEED_STRIDE + index, length, tokenizer, plan.in_tokens)
  return dataclasses.replace(example, questions=example.questions[: plan.config.questions])


def _model_work(plan: Plan, name: str) -> ModelWork:
  config, model = plan.config, plan.models[name]
  tokenizer = load_tokenizer(model.checkpoint)
  groups: dict[tuple[str, int, int], list[Example]] = {}
  for task in plan.tasks:
    for length in config.lengths:
      for seed in config.seeds:
        # A single context needs another one too, for the control.
        count = max(plan.contexts(length), 2)
        groups[task, length, seed] = [
          _example(plan, task, seed, length, index, tokenizer) for index in range(count)
        ]
  cases = {
    (task, length, seed): [make_case(example, plan.tasks[task], tokenizer) for example in group]
    for (task, length, seed), group in groups.items()
  }
  _check_answers(plan, cases)
  items = []
  for (task, length, seed), group in _same_shapes(plan, cases).items():
    for index, case in enumerate(group[: plan.contexts(length)]):
      case = dataclasses.replace(case, other=group[(index + 1) % len(group)])
      tokens = case.num_tokens, case.other.num_tokens
      prompt = max(map(len, case.prompts + case.thinking_prompts))
      size = allowances.sizes(plan, model, min(tokens), prompt, max(tokens))
      allowed, errors = {}, {}
      for strategy in plan.strategies:
        try:
          allowed[strategy] = allowances.allowance(plan, size, strategy)
        except UserError as reason:
          if index == 0:
            raise  # all contexts, most likely: a mistake in the config
          errors[strategy] = str(reason)
      items.append(Item(name, task, seed, length, index, case, allowed, errors))
  return ModelWork(tokenizer, items, _decodings(plan, name, tokenizer, items))


def _check_answers(plan: Plan, cases: dict[tuple, list[Case]]) -> None:
  """Raises UserError where a reference answer is longer than an answer may be."""
  most = plan.config.sampling.max_new_tokens
  for (task, *_), group in cases.items():
    longest = max(len(answer) for case in group for answer in case.answers)
    if longest > most:
      raise UserError(
        f"config.sampling.max_new_tokens={most} is less than the {longest} tokens of a reference"
        f" answer of {task}; raise it"
      )


def _same_shapes(plan: Plan, cases: dict[tuple, list[Case]]) -> dict[tuple, list[Case]]:
  """The cases by (task, length, seed), padded so that those of a length share their programs.

  With config.share_programs all lengths and tasks do, but for lengths too far apart.
  """
  share = plan.config.share_programs
  tokens = {
    key: key[1] if plan.in_tokens else max(case.num_tokens for case in group)
    for key, group in cases.items()
  }
  capacities = _capacities(tokens, share, plan.config.mesh.context)
  every = [case for group in cases.values() for case in group]
  same = {}
  for key, group in cases.items():
    alike = (
      every
      if share
      else [case for (task, *_), own in cases.items() if task == key[0] for case in own]
    )
    same[key] = [
      dataclasses.replace(
        case,
        capacity=capacities[key],
        rows=max(other.num_questions for other in alike),
        prompt_width=max(other.prompt_width for other in alike),
        answer_width=max(other.answer_width for other in alike),
      )
      for case in group
    ]
  return same


def _capacities(tokens: dict[tuple, int], share: bool, shards: int) -> dict[tuple, int]:
  """Cache slots for contexts of up to so many tokens; equal capacities share compiled programs."""
  longest = max(tokens.values())

  def shared(length: int) -> int:
    most = longest
    while length * SHARED_RANGE <= most:
      most = max(n for n in tokens.values() if n * SHARED_RANGE <= most)
    return most

  return {
    key: round_capacity(shared(length) if share else length, shards)
    for key, length in tokens.items()
  }


def _decodings(
  plan: Plan, name: str, tokenizer, items: list[Item]
) -> dict[tuple[str, int], Decoding]:
  """Sampling of every strategy and program, with room for the largest thinking budget."""
  config, checkpoint = plan.config, plan.models[name].checkpoint
  stop_ids = _stop_ids(checkpoint, tokenizer)
  forced, end = encode(tokenizer, config.thinking.forced_stop), encode(tokenizer, "</think>")
  answer = SamplingConfig(**config.sampling, stop_ids=stop_ids)
  budgets: dict[tuple[str, int], list[int]] = {}
  ends: dict[tuple[str, int], int] = {}  # positions before anything is generated
  for item in items:
    for strategy, allowed in item.allowances.items():
      key = strategy, item.case.capacity
      own = budgets.setdefault(key, [])
      if allowed.thinking_tokens is not None:
        own.append(allowed.thinking_tokens)
        context = max(item.case.num_tokens, getattr(plan.strategies[strategy], "stretch", 0))
        ends[key] = max(ends.get(key, 0), context + max(map(len, item.case.thinking_prompts)))
  limit = plan.models[name].architecture.max_position_embeddings
  decodings = {}
  for (strategy, capacity), tokens in budgets.items():
    if not tokens:
      decodings[strategy, capacity] = Decoding(answer, answer, config.mechanism)
      continue
    if len(end) != 1:
      raise UserError(
        f"config.strategies: {strategy} needs a tokenizer with the token </think>, which that of"
        f" {checkpoint} lacks; leave it out"
      )
    if min(tokens) <= len(forced):
      raise UserError(
        f"config.strategies: {strategy} may think for {min(tokens)} tokens, too few for the"
        f" {len(forced)} of config.thinking.forced_stop; raise config.ttt.steps or"
        " config.thinking.budget, or take fewer samples"
      )
    room = -(-max(tokens) // _SIZE_MULTIPLE) * _SIZE_MULTIPLE + config.sampling.max_new_tokens
    room = min(room, limit - ends[strategy, capacity])
    if room < max(tokens) + config.sampling.max_new_tokens:
      raise UserError(
        f"config.lengths: {strategy} needs up to {max(tokens)} thinking tokens in one program"
        f" with contexts that leave {room} of the model's {limit} positions; use shorter"
        " contexts, or config.share_programs=false"
      )
    thinking = SamplingConfig(
      max_new_tokens=room,
      temperature=config.thinking.temperature,
      top_k=config.thinking.top_k,
      top_p=config.thinking.top_p,
      stop_ids=stop_ids,
      thinking_budget=0,
      end_think_id=end[0],
      forced_stop_ids=forced,
      max_answer_tokens=config.sampling.max_new_tokens,
    )
    decodings[strategy, capacity] = Decoding(answer, thinking, config.mechanism)
  return decodings


def _stop_ids(checkpoint: pathlib.Path, tokenizer) -> tuple[int, ...]:
  """The ids that end an answer: generation_config.json's and the tokenizer's."""
  ids = set()
  path = checkpoint / "generation_config.json"
  if path.is_file():
    try:
      eos = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except ValueError as error:
      raise UserError(f"{path}: not JSON ({error}); restore or delete it") from None
    ids.update(eos if isinstance(eos, list) else [eos])
  ids.add(tokenizer.eos_token_id)
  return tuple(sorted(ids - {None}))
