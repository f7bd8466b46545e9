"""A run made small: it shows that everything runs, and proves nothing."""

from collections.abc import Sequence

import jax
from ml_collections import config_dict

from tttjax import hosts, spec
from tttjax.checkpoint import NAMED_MODELS
from tttjax.experiment.run_fields import EMBEDDED
from tttjax.strategies import STRATEGIES
from tttjax.tasks import TASKS
from tttjax.tasks.protocol import reads_documents

_QUESTIONS, _STEPS = 2, 4
_DOCUMENT_TOKENS = 1024
ANSWER_TOKENS = 32  # about documents, where benchmarks allow a thousand
_THINKING_TOKENS = 16  # of each sample: room for a forced stop
_FEWEST_THINKING_TOKENS = 64


def sized(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
  """The same run, small: few steps, and short thoughts that are not matched to them.

  Models that are named are here, or quickly said not to be; the embedded one stands in for files.
  """
  reduced = config.copy_and_resolve_references()
  reduced.workdir = f"{config.workdir}-smoke"
  named = [name for name in config.models if name in NAMED_MODELS]
  reduced.models = tuple(named) or (EMBEDDED,)
  reduced.yarn.factor = 0.0  # of models that are not read, for longer contexts
  if not named:
    for axis in reduced.mesh:
      reduced.mesh[axis] = 1  # and the devices that these need
    if hosts.count() > 1:
      reduced.mesh.data = jax.device_count()
  shortest = min(config.lengths)
  if any(reads_documents(TASKS.get(spec.taken_apart(task)[0])) for task in config.tasks):
    shortest = min(shortest, _DOCUMENT_TOKENS)  # there it is a limit
    reduced.sampling.max_new_tokens = 0  # what is shorter than ANSWER_TOKENS stays as it is
  reduced.lengths = (shortest,)
  reduced.contexts = (1,)
  reduced.questions = min(config.questions, _QUESTIONS)
  reduced.seeds = config.seeds[:1]
  reduced.share_programs = True
  at_most = lambda value, most: min(value, most) if type(value) is int else most
  with reduced.ignore_type():  # either may be a word
    reduced.ttt.steps = at_most(config.ttt.steps, _STEPS)
    reduced.thinking.budget = at_most(config.thinking.budget, _thinking_tokens(config.strategies))
  return reduced


def _thinking_tokens(strategies: Sequence[str]) -> int:
  """Enough for the strategy of the most samples, which share a budget."""
  samples = [1]
  for text in strategies:
    name, options = spec.taken_apart(text)
    samples.append(options.get("n", getattr(STRATEGIES.get(name), "n", 1)))
  numbers = [int(n) for n in samples if str(n).isdecimal()]  # others are refused later
  return max(_THINKING_TOKENS * max(numbers), _FEWEST_THINKING_TOKENS)
