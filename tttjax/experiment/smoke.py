"""A run made small: it shows that everything runs, and proves nothing."""

from ml_collections import config_dict

from tttjax.checkpoint import NAMED_MODELS
from tttjax.experiment.run_fields import EMBEDDED, MATCHED

_CONTEXTS, _QUESTIONS, _STEPS = 2, 2, 4


def sized(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
  """The same run, as small as it may be with its budgets kept.

  Models that are named are here, or quickly said not to be; the embedded one stands in for files.
  """
  reduced = config.copy_and_resolve_references()
  reduced.workdir = f"{config.workdir}-smoke"
  named = [name for name in config.models if name in NAMED_MODELS]
  reduced.models = tuple(named) or (EMBEDDED,)
  reduced.lengths = (min(config.lengths),)
  reduced.contexts = (_CONTEXTS,)
  reduced.questions = min(config.questions, _QUESTIONS)
  reduced.seeds = config.seeds[:1]
  reduced.share_programs = True
  return reduced


def with_few_steps(config: config_dict.ConfigDict, strategies) -> config_dict.ConfigDict:
  """Few steps, unless thoughts are matched to them: those would have no token."""
  thinks = any(getattr(strategy, "thinks", False) for strategy in strategies)
  if thinks or config.ttt.steps == MATCHED:
    return config
  reduced = config.copy_and_resolve_references()
  reduced.ttt.steps = min(config.ttt.steps, _STEPS)
  return reduced
