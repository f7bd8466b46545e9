"""Suffix attention that keeps the evidence apart from everything else a query sees."""

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from tttjax.attention import attend_marked, attend_whole, merge
from tttjax.attention.caches import PrefixCache
from tttjax.attention.phases import Suffix
from tttjax.checks import as_array, pad_to
from tttjax.decode.suffix import check_suffix
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder


@struct.dataclass
class MarkedSuffix(Suffix):
  """The plain suffix with evidence marked in the prefix.

  Attributes:
    marks: bool [B, n, capacity], the evidence of suffix row b*n + j at [b, j].
  """

  marks: jax.Array | None = None

  def attend_apart(self, q, kv, prefix_values, layer, limits):
    """Attention of queries [R, T, H, d] over their evidence, and over all other slots.

    Args:
      kv: the suffix's keys, and the values [L, R, K, S, d] that the weights are applied to.
      prefix_values: [L, B, K, capacity, d], the same of the prefix.
      limits: int32 [R, T], one past the last suffix slot that each query sees.

    Returns:
      (o, lse) over the evidence, (o, lse) over the rest of prefix and suffix, [R, T, H, ...] each,
      and the rest's largest scaled score.
    """
    rows = self.by_prefix(q)
    window = layer, jnp.zeros(rows.shape[:1], jnp.int32), self.prefix_limits(rows)
    slots = self.prefix.keys, prefix_values
    parts = attend_marked(rows, *slots, self.marks, *window, self.backend.mesh)
    evidence, rest = jax.tree.map(self.by_suffix, parts)
    suffix = attend_whole(q, *kv, layer, self.suffix.first, limits)
    others = merge(rest.o, rest.lse, suffix.o, suffix.lse)
    return (evidence.o, evidence.lse), others, jnp.maximum(rest.top, suffix.top)


def check_rows(model: Decoder, cache: PrefixCache, tokens, lengths, evidence):
  """Checks a suffix [R, S] with evidence [R, T]; returns them padded, and int32 lengths [R].

  Raises:
    UserError: what `check_suffix` raises, or evidence of another shape.
  """
  tokens, lengths = check_suffix(model, cache, tokens, lengths, 0)
  evidence = as_array("evidence", evidence)
  if np.ndim(evidence) != 2 or evidence.shape[0] != tokens.shape[0]:
    raise UserError(f"evidence must be bool [{tokens.shape[0]}, T], not {np.shape(evidence)}")
  if evidence.shape[1] > cache.capacity:
    raise UserError(f"evidence marks {evidence.shape[1]} slots of {cache.capacity}")
  return tokens, lengths, pad_to(evidence, cache.capacity)


def marks_by_prefix(evidence: jax.Array, batch: int) -> jax.Array:
  """Evidence [R, capacity] as the marks of a `MarkedSuffix` on `batch` prefix rows."""
  return (evidence != 0).reshape(batch, -1, evidence.shape[1])
