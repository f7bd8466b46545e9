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
  """Bytes that each phase has to move, at least; spans see half of the cache in the mean."""
  c = work.architecture
  return {
    "prefill": prefill_bytes(c, work.context),
    "adapt": work.ttt.steps * step_bytes(c, work.context / 2),
    "generate": work.new_tokens * token_bytes(c, work.context, work.adapts),
  }


def prefill_bytes(c: DecoderConfig, context: int, itemsize: int = _BF16) -> int:
  """The weights are read once and the cache is written."""
  return itemsize * matmul_weights(c) + kv_bytes(c, context, itemsize)


def step_bytes(c: DecoderConfig, attended: float, itemsize: int = _BF16) -> float:
  """A step reads the weights but for K and V twice, forward and backward, so too the slots that the
  span sees, and Delta, its gradient and the moments seven times."""
  queries = c.num_hidden_layers * c.hidden_size * c.num_attention_heads * c.head_dim
  keys = 2 * c.num_hidden_layers * c.hidden_size * c.num_key_value_heads * c.head_dim
  read = itemsize * (matmul_weights(c) - keys) + kv_bytes(c, attended, itemsize)
  return 2 * read + 7 * _F32 * queries


def token_bytes(c: DecoderConfig, context: int, delta: bool, itemsize: int = _BF16) -> int:
  """A new token reads the weights, Delta and the cache, once for all samples."""
  queries = c.num_hidden_layers * c.hidden_size * c.num_attention_heads * c.head_dim
  read = itemsize * matmul_weights(c) + kv_bytes(c, context, itemsize)
  return read + delta * _F32 * queries


def kv_bytes(c: DecoderConfig, slots: float, itemsize: int = _BF16) -> float:
  """Keys and values in so many slots of every layer."""
  return 2 * itemsize * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * slots


def matmul_weights(c: DecoderConfig) -> int:
  """Weights that a token is multiplied with: all layers, and the vocabulary once."""
  attention = 2 * (c.num_attention_heads + c.num_key_value_heads) * c.head_dim
  layer = c.hidden_size * (attention + 3 * c.intermediate_size)
  return c.num_hidden_layers * layer + c.hidden_size * c.vocab_size
