"""The machine's limit of each phase: its FLOPs at the matmul peak or its bytes at the bandwidth."""

import dataclasses

import jax.numpy as jnp

from benchmarks.machine import Peaks
from benchmarks.ours import PROMPT
from benchmarks.suites import Suite
from tttjax import flops
from tttjax.models.decoder_config import DecoderConfig
from tttjax.plan import roofline


@dataclasses.dataclass(frozen=True)
class Limit:
  """Seconds that a phase takes at least, and what sets them: 'compute' or 'memory'."""

  seconds: float
  bound: str


def limits(suite: Suite, config: DecoderConfig, length: int, peaks: Peaks) -> dict[str, Limit]:
  """By phase, of what `ours.actions` runs."""
  itemsize = jnp.dtype(suite.dtype).itemsize

  def limit(operations: int, moved: float) -> Limit:
    computing, moving = operations / peaks.flops, moved / peaks.bandwidth
    return Limit(max(computing, moving), "compute" if computing >= moving else "memory")

  # Tokens after the first: what all of them need, less what that one does.
  after = lambda n: (
    flops.decode(config, length, PROMPT, 1 + n, False)
    - flops.decode(config, length, PROMPT, 1, False)
  )
  tokens = suite.new_tokens
  last = length - suite.span - 1
  prefill = roofline.prefill_bytes(config, length, itemsize)
  step = roofline.step_bytes(config, length, itemsize)
  token = roofline.token_bytes(config, length, False, itemsize)
  return {
    "prefill": limit(flops.prefill(config, length), prefill),
    "step": limit(flops.ttt_step(config, length, suite.span, last), step),
    "loop": limit(
      flops.adapt(config, length, suite.span, suite.steps, [last] * suite.steps),
      suite.steps * step,
    ),
    "decode": limit(after(tokens), tokens * token),
    "decode, shared": limit(suite.samples * after(tokens), tokens * token),
    "score": limit(flops.decode(config, length, suite.span, suite.span, False), token),
  }
