"""How attention over a cache is computed: one static value, and the one place that reads it."""

import dataclasses

import jax
from jax.sharding import Mesh

from tttjax.attention import chunked, pallas_tpu
from tttjax.errors import UserError

# Name -> a module (or any object) with the functions `forward`, `backward_q` and `backward` of
# `chunked`, whose docstrings are the contract, and its SPLIT_BY_XLA. They see one shard: queries
# [B, T, H, d], not folded, and slots [L, B, K, S, d] at a traced layer.
BACKENDS = {"portable": chunked, "pallas_tpu": pallas_tpu}

# What "auto" means, by the platform of the devices.
AUTO = {
  "cpu": "portable",
  "gpu": "portable",
  # pallas_tpu has been compiled for TPUs and run interpreted, and has not run on one.
  "tpu": "portable",
}


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

  @property
  def needs_shards(self) -> bool:
    """Whether the kernels can only be called within a shard_map over the mesh."""
    return self.mesh is not None and self.mesh.size > 1 and not self.kernels.SPLIT_BY_XLA


def check_attention(name: str) -> str:
  """The name; raises UserError unless it is "auto" or that of a backend."""
  if name != "auto" and name not in BACKENDS:
    raise UserError(f"attention={name!r}: choose one of auto, {', '.join(BACKENDS)}")
  return name


def backend_of(attention: str, mesh: Mesh | None) -> Backend:
  """The backend that `attention` names: "auto" takes the devices' of AUTO.

  Raises:
    UserError: no such backend.
  """
  name = check_attention(attention)
  if name == "auto":
    name = AUTO.get(_platform(mesh), "portable")
  return Backend(mesh, name)


def _platform(mesh: Mesh | None) -> str:
  """Of the mesh's devices, or of those that JAX takes by default."""
  if isinstance(mesh, Mesh):
    return mesh.devices.flat[0].platform
  return jax.default_backend()
