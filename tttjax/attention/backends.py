"""How attention over a cache is computed: one static value, and the one place that reads it."""

import dataclasses

from jax.sharding import Mesh

from tttjax.attention import chunked

# Name -> a module (or any object) with the functions `forward`, `backward_q` and `backward` of
# `chunked`, whose docstrings are the contract. They see one shard: queries [B, T, H, d], not
# folded, and slots [L, B, K, S, d] at a traced layer.
BACKENDS = {"portable": chunked}


@dataclasses.dataclass(frozen=True)
class Backend:
  """Static and hashable, passed whole from the model to the attention.

  Attributes:
    mesh: shards the slots of a prefix over its context axis; None where they are not sharded.
    name: the key of the kernels in BACKENDS.
  """

  mesh: Mesh | None = None
  name: str = "portable"

  @property
  def kernels(self):
    """The functions that compute attention within one shard."""
    return BACKENDS[self.name]
