"""Says what a context needs of which devices: memory by kind, ideal seconds, the smallest slice.

  python -m tttjax.plan --model=8B --context=131072 --topology=v5p            # the smallest v5p
  python -m tttjax.plan --model=DIR --context=32768 --topology=v5e:2x4 --strategy='qttt(steps=64)'

The model is a released one's name, or what --model of tttjax.ask takes; its weights are not read.
For a TPU every phase is compiled, without one (pip install 'tttjax[tpu-aot]'). Exit code 1 where
nothing fits.
"""

import sys

from absl import flags
import jax

from tttjax import flags as command_line
from tttjax import spec
from tttjax.attention.backends import BACKENDS, check_attention
from tttjax.checkpoint import open_checkpoint
from tttjax.errors import UserError
from tttjax.models.decoder_config import DecoderConfig
from tttjax.plan import plan_text, planned_work, planning, sizes
from tttjax.plan.chips import DEVICES, topologies
from tttjax.strategies import STRATEGIES

_MODEL = flags.DEFINE_string("model", None, f"{', '.join(sizes.NAMES)}, or a directory or file")
_CONTEXT = flags.DEFINE_integer("context", 131_072, "tokens that are read")
_TOPOLOGY = flags.DEFINE_string(
  "topology", "v5p", f"{', '.join(DEVICES)}, alone or with a size, as v5e:2x4 or h100:8"
)
_STRATEGY = flags.DEFINE_string(
  "strategy", "qttt", f"of: {', '.join(planned_work.PLANNED)}; with options"
)
_ATTENTION = flags.DEFINE_string(
  "attention", "auto", f"kernels of the attention: auto, {', '.join(BACKENDS)}"
)
_ANSWER = flags.DEFINE_integer("max_new_tokens", 512, "longest answer, tokens")


def main() -> int:
  """Prints the plan; 1 where nothing fits."""
  jax.config.update("jax_platforms", "cpu")  # nothing runs, and a TPU here is not taken
  candidates = topologies(_TOPOLOGY.value)
  for name, value in (("context", _CONTEXT.value), ("max_new_tokens", _ANSWER.value)):
    if value < 1:
      raise UserError(f"--{name}={value}: at least 1")
  try:
    attention = check_attention(_ATTENTION.value)
  except UserError as error:
    raise UserError(f"--{error}") from None
  strategy = spec.parse(_STRATEGY.value, STRATEGIES, "--strategy")
  name, architecture = _model()
  try:
    work = planned_work.work_of(architecture, _CONTEXT.value, strategy, _ANSWER.value)
  except UserError as error:
    raise UserError(f"--strategy: {error}") from None
  print(plan_text.heading(name, work, spec.canonical(strategy, STRATEGIES)) + "\n")
  if len(candidates) == 1:
    asked = planning.plan(work, candidates[0], attention)
    print(f"{plan_text.table(asked)}\n\n{plan_text.verdict(asked)}")
    if asked.fits:
      return 0
    every = topologies(asked.topology.family)
    candidates = every[every.index(asked.topology) + 1 :]
  plan = None
  for plan in planning.smallest(work, candidates, attention):
    if not plan.fits:
      print(plan_text.verdict(plan), file=sys.stderr)
  family = topologies(_TOPOLOGY.value)[0].family
  if plan is None or not plan.fits:
    print(f"no {family} up to {DEVICES[family].sizes[-1]} fits")
    return 1
  if len(candidates) < len(topologies(family)):  # the one that was asked for is too small
    print(f"\nthe smallest {family} that fits:\n")
  print(f"{plan_text.table(plan)}\n\n{plan_text.verdict(plan)}")
  return 0


def _model() -> tuple[str, DecoderConfig]:
  """Its name and architecture."""
  if not _MODEL.value:
    raise UserError(f"--model is missing: {', '.join(sizes.NAMES)}, or a directory or file")
  if found := sizes.released(_MODEL.value):
    return found, sizes.architecture(found)
  try:
    return _MODEL.value, open_checkpoint(_MODEL.value).config
  except UserError as error:
    raise UserError(f"--model: {error}; or one of {', '.join(sizes.NAMES)}") from None


if __name__ == "__main__":
  command_line.run(main)
