"""What each strategy may spend on a context: budgets of equal model FLOPs, and whether they fit."""

import dataclasses

from tttjax import flops
from tttjax.errors import UserError
from tttjax.experiment.config import MATCHED, PAPER, Model, Plan
from tttjax.strategies.strategy import Allowance, Reference, Sizes, fitting_span

# Tokens of a question assumed where no tokenizer is loaded yet; those of the tasks have 15 to 100.
PROMPT_TOKENS = 64


def sizes(
  plan: Plan, model: Model, context: int, prompt: int = PROMPT_TOKENS, longest: int = 0
) -> Sizes:
  """The lengths of one context: `context` and `prompt` tokens, and the longest answer."""
  return Sizes(
    model.architecture,
    context,
    prompt,
    plan.config.sampling.max_new_tokens,
    max(context, longest),
    cut_spans=not plan.in_tokens,
  )


def reference(plan: Plan, size: Sizes) -> Reference:
  """The run's budget on a context of this size: what the config gives, and what is matched to it.

  Every question is charged the whole adaptation, as in the paper.

  Raises:
    UserError: the thinking budget does not pay for one step.
  """
  config = plan.config
  span_kv, budget = config.ttt.span_kv, config.thinking.budget
  span = fitting_span(config.ttt.span, size)
  shape = size.architecture, size.context, size.prompt
  if config.ttt.steps == MATCHED:
    given = flops.thinking(*shape, budget, size.answer)
    steps = flops.match_steps(*shape, span, budget, size.answer, span_kv)
    if steps < 1:
      raise UserError(
        f"config.thinking.budget={budget} is too small for one step of config.ttt.span={span} at"
        f" {size.context} tokens; raise it or lower the span"
      )
    return Reference(plan.ttt(steps, span), budget, given, "flops")
  steps = config.ttt.steps
  given = flops.qttt(*shape, span, steps, size.answer, span_kv=span_kv)
  if budget == MATCHED:
    tokens = flops.largest_within(given, lambda n: flops.thinking(*shape, n, size.answer))
    return Reference(plan.ttt(steps, span), tokens, given, "flops")
  tokens = flops.paper_rule(span, steps) if budget == PAPER else budget
  return Reference(plan.ttt(steps, span), tokens, given, "tokens")


def allowances(plan: Plan, size: Sizes) -> dict[str, Allowance]:
  """What each strategy may spend on a context of this size.

  Raises:
    UserError: names the strategy for which the budget is too small, or a context for which the
      model has too few positions.
  """
  return {name: allowance(plan, size, name) for name in plan.strategies}


def allowance(plan: Plan, size: Sizes, name: str) -> Allowance:
  """That of the strategy `name` alone."""
  budget = reference(plan, size)
  try:
    allowed = plan.strategies[name].allowance(size, budget)
  except UserError as error:
    raise UserError(f"config.strategies: {name}: {error}") from None
  _check_positions(plan, size, name, allowed)
  return allowed


def _check_positions(plan: Plan, size: Sizes, name: str, allowed: Allowance) -> None:
  limit = size.architecture.max_position_embeddings
  stretch = getattr(plan.strategies[name], "stretch", 0)
  if 0 < stretch < size.longest:
    raise UserError(
      f"config.strategies: {name}: stretch={stretch} is shorter than a context of {size.longest}"
      " tokens; stretch to at least that"
    )
  context = max(size.longest, stretch)
  after = size.prompt + size.answer
  if context + after > limit:
    raise UserError(
      f"config.lengths: {context} tokens of context and {after} of question and answer exceed"
      f" the model's {limit} positions (max_position_embeddings in config.json); use shorter"
      " contexts, or configure YaRN there"
    )
  thought = allowed.thinking_tokens or 0
  if context + after + thought > limit:
    raise UserError(
      f"config.thinking.budget: {thought} thinking tokens of {name} after a context of"
      f" {context} exceed the model's {limit} positions; lower config.ttt.steps or"
      " config.thinking.budget, or use shorter config.lengths"
    )


@dataclasses.dataclass(frozen=True)
class Estimate:
  """The size of a run.

  Attributes:
    flops: model FLOPs if every budget is used up.
    rows: predictions at most.
  """

  flops: int
  rows: int


def estimate(plan: Plan, context_tokens) -> Estimate:
  """Counts a run before it starts.

  An upper bound: as many questions as config.questions allows, each with its longest answer.

  Args:
    context_tokens: function (model name, task spec, length) to tokens of such a context.
  """
  config = plan.config
  total = rows = 0
  for name, model in plan.models.items():
    for task in plan.tasks:
      for length in config.lengths:
        size = sizes(plan, model, context_tokens(name, task, length))
        contexts = plan.contexts(length) * len(config.seeds)
        for allowed in allowances(plan, size).values():
          own = allowed.flops - allowed.shared_flops
          reading = allowed.prefills * flops.prefill(size.architecture, size.context)
          total += contexts * (reading + allowed.shared_flops + config.questions * own)
          rows += contexts * config.questions
  return Estimate(total, rows)
