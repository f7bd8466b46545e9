"""Which strategies can answer from the shell, where no one knows where the answer stands."""

from collections.abc import Sequence

from tttjax import spec
from tttjax.errors import UserError
from tttjax.strategies import STRATEGIES, Strategy


def check_askable(strategy: Strategy, flags_given: Sequence[str]) -> None:
  """Raises UserError where the strategy needs more than one context and a question.

  Args:
    flags_given: of steps, span and learning_rate those on the command line.
  """
  if reason := _not_askable(strategy):
    others = ", ".join(name for name, kind in STRATEGIES.items() if not _not_askable(kind()))
    raise UserError(f"--strategy={strategy.name}: {reason}; choose one of {others}")
  for name in flags_given:
    if name in spec.options_of(strategy):
      raise UserError(f"--strategy gives {name} already: leave --{name} out")
    if getattr(strategy, name, None) is not None:
      raise UserError(
        f"--{name} is not for {strategy.name}: write --strategy='{strategy.name}({name}=...)'"
      )


def _not_askable(strategy: Strategy) -> str | None:
  """Why it cannot be asked."""
  if getattr(strategy, "trains_elsewhere", False):
    return "it trains on another context than the question's, and there is one"
  if getattr(strategy, "spans", None) == "oracle":
    return "its spans are around the answer, and where that stands is not known (spans=random)"
  if getattr(strategy, "stretch", 0):
    return "it stretches the lines of a generated context, and this is none"
  return None
