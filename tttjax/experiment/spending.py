"""What each strategy may spend on a context: budgets of equal model FLOPs, and whether they fit."""

import dataclasses

from tttjax import flops
from tttjax.errors import UserError
from tttjax.experiment.config import Plan
from tttjax.experiment.run_fields import MATCHED, PAPER
from tttjax.strategies.budget import Allowance, Budget, Lengths

# Tokens of a question assumed where no tokenizer is loaded yet; those of the tasks have 15 to 100.
PROMPT_TOKENS = 64


def budget_of(plan: Plan, lengths: Lengths) -> Budget:
  """The run's budget on a context: what the config gives, and what is matched to it.

  Raises:
    UserError: the thinking budget does not pay for one step, or the span does not fit.
  """
  config, shape, answer = plan.config, lengths.shape, lengths.answer
  given = config.thinking.budget
  try:
    span = lengths.fitting_span(config.ttt.span)
  except UserError as error:
    raise UserError(f"config.ttt.span: {error}") from None
  make = lambda steps: plan.ttt(steps, span)
  temperature = config.thinking.temperature
  if config.ttt.steps == MATCHED:
    paid = flops.thinking(*shape, given, answer)
    rest = paid - lengths.answer_flops(delta=True)
    steps = flops.largest_within(rest, lambda n: lengths.adapt_flops(make(1), n))
    if steps < 1:
      raise UserError(
        f"config.thinking.budget={given} is too small for one step of config.ttt.span={span} at"
        f" {lengths.context} tokens; raise it or lower the span"
      )
    return Budget(lengths, make(steps), given, paid, "flops", temperature)
  ttt = make(config.ttt.steps)
  matched = Budget.of_steps(lengths, ttt, temperature)
  if given == MATCHED:
    return matched
  tokens = flops.paper_rule(span, ttt.steps) if given == PAPER else given
  return dataclasses.replace(matched, thinking_tokens=tokens, rule="tokens")


def allowance(plan: Plan, budget: Budget, name: str) -> Allowance:
  """What the strategy `name` may spend.

  Raises:
    UserError: names the strategy for which the budget is too small, or a context for which the
      model has too few positions.
  """
  try:
    allowed = plan.strategies[name].allowance(budget)
  except UserError as error:
    raise UserError(f"config.strategies: {name}: {error}") from None
  _check_positions(plan, budget.lengths, name, allowed)
  return allowed


def allowances(plan: Plan, budget: Budget) -> dict[str, Allowance]:
  """Those of all strategies; raises UserError as `allowance`."""
  return {name: allowance(plan, budget, name) for name in plan.strategies}


def _check_positions(plan: Plan, lengths: Lengths, name: str, allowed: Allowance) -> None:
  limit = lengths.architecture.max_positions
  longest = max(lengths.context, lengths.other)
  stretch = getattr(plan.strategies[name], "stretch", 0)
  if 0 < stretch < longest:
    raise UserError(
      f"config.strategies: {name}: stretch={stretch} is shorter than a context of {longest} tokens;"
      " stretch to at least that"
    )
  context = max(longest, stretch)
  after = lengths.prompt + lengths.answer
  if context + after > limit:
    raise UserError(
      f"config.lengths: {context} tokens of context and {after} of question and answer exceed"
      f" the model's {limit} positions (config.json of the model); use shorter contexts, or"
      " give config.yarn.factor"
    )
  thought = allowed.thinking_tokens or 0
  if context + after + thought > limit:
    raise UserError(
      f"config.thinking.budget: {thought} thinking tokens of {name} after a context of {context}"
      f" exceed the model's {limit} positions; lower config.ttt.steps or config.thinking.budget,"
      " or use shorter config.lengths"
    )
