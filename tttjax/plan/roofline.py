"""Seconds that the chips' peaks allow: the larger of computing and moving what must be moved.

A lower bound that no program reaches: good ones come to half of it or more.
"""

import dataclasses

from tttjax.models.decoder_config import DecoderConfig
from tttjax.plan.chips import Topology
from tttjax.plan.planned_work import Work

_BF16, _F32 = 2, 4


@dataclasses.dataclass(frozen=True)
class Ideal:
  """A phase at its bound: seconds, and what binds it, 'compute' or 'memory'."""

  flops: int
  seconds: float
  bound: str


def ideal(work: Work, topology: Topology) -> dict[str, Ideal]:
  """Of each phase, on all devices of the topology, perfectly split."""
  device, moved, found = topology.device, _bytes(work), {}
  for phase, count in work.flops().items():
    computing = count / (topology.devices * device.flops)
    moving = moved[phase] / (topology.devices * device.bandwidth)
    bound = "compute" if computing >= moving else "memory"
    found[phase] = Ideal(count, max(computing, moving), bound)
  return found


def _bytes(work: Work) -> dict[str, float]:
  """Bytes that each phase has to move, at least.

  prefill writes the cache and reads the weights once. A step reads the weights but for K and V
  twice, forward and backward, so too the mean half of the cache that a span sees, and Delta, its
  gradient and the moments seven times. Each new token reads the weights, Delta and the cache, once
  for all samples.
  """
  c, steps = work.architecture, work.ttt.steps
  cache = kv_bytes(c, work.context)
  queries = c.num_hidden_layers * c.hidden_size * c.num_attention_heads * c.head_dim
  keys = 2 * c.num_hidden_layers * c.hidden_size * c.num_key_value_heads * c.head_dim
  weights = matmul_weights(c)
  step = 2 * _BF16 * (weights - keys) + cache + 7 * _F32 * queries
  token = _BF16 * weights + cache + work.adapts * _F32 * queries
  return {
    "prefill": _BF16 * weights + cache,
    "adapt": steps * step,
    "generate": work.new_tokens * token,
  }


def kv_bytes(c: DecoderConfig, context: int, itemsize: int = _BF16) -> int:
  """Keys and values of a context."""
  return 2 * itemsize * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * context


def matmul_weights(c: DecoderConfig) -> int:
  """Weights that a token is multiplied with: all layers, and the vocabulary once."""
  attention = 2 * (c.num_attention_heads + c.num_key_value_heads) * c.head_dim
  layer = c.hidden_size * (attention + 3 * c.intermediate_size)
  return c.num_hidden_layers * layer + c.hidden_size * c.vocab_size
