"""Logical axes and the mesh: every tensor names its axes once, rules map the names to mesh axes.

A mesh has any of the axes data, fsdp, tensor and context (`make_mesh` builds
one; a caller's own mesh works if it uses these names). An axis of a tensor
that its mesh axes do not divide is replicated instead of refused: KV heads
fewer than the tensor axis, batch 1 on a data axis.
"""

import math

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from tttjax.checks import check_kind, check_number
from tttjax.errors import UserError

AXES = ("data", "fsdp", "tensor", "context")

# Logical axis -> mesh axes. Parameters: vocab, embed, heads, kv_heads, mlp
# (layers, head_dim and norm are never split). Activations and caches: batch, slots.
RULES = {
  "vocab": ("tensor",),
  "embed": ("fsdp",),
  "heads": ("tensor",),
  "kv_heads": ("tensor",),
  "mlp": ("tensor",),
  "batch": ("data", "fsdp"),
  "slots": ("context",),
}


def make_mesh(
  data: int = 1, fsdp: int = 1, tensor: int = 1, context: int = 1, devices=None
) -> Mesh:
  """A mesh of the four axes over `devices` (default: all), with Auto axis types.

  Raises:
    UserError: sizes that are no whole numbers of at least 1, or whose product is not the number of
      devices.
  """
  sizes = zip(AXES, (data, fsdp, tensor, context))
  shape = tuple(check_number(name, size, 1, whole=True, static=True) for name, size in sizes)
  devices = np.asarray(jax.devices() if devices is None else devices)
  if math.prod(shape) != devices.size:
    raise UserError(
      f"mesh {dict(zip(AXES, shape))} needs {math.prod(shape)} devices but {devices.size} are"
      " given: choose sizes whose product is the number of devices"
    )
  return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 4, devices=devices.ravel())


def check_mesh(mesh) -> None:
  """Raises UserError unless `mesh` is a mesh or None."""
  check_kind("mesh", mesh, (Mesh, type(None)), "give what tttjax.make_mesh returns, or None")


def axis_size(mesh: Mesh | None, name: str) -> int:
  """Devices along mesh axis `name`; 1 without a mesh or without that axis."""
  return 1 if mesh is None else dict(mesh.shape).get(name, 1)


def spec(mesh: Mesh, axes: tuple[str | None, ...], shape: tuple[int, ...]) -> PartitionSpec:
  """PartitionSpec of a tensor of `shape` whose axes are the logical `axes`.

  Mesh axes that are missing, or that the dimension does not divide by, are dropped.
  """
  if any(kind != AxisType.Auto for kind in mesh.axis_types):
    raise UserError(
      "the model's mesh must have Auto axes (jax.make_mesh makes Explicit ones): use"
      " tttjax.make_mesh, or give jax.make_mesh axis_types=(jax.sharding.AxisType.Auto,) * axes"
    )
  entries = []
  for name, size in zip(axes, shape, strict=True):
    kept, count = [], 1
    for mesh_axis in RULES.get(name, ()):
      n = axis_size(mesh, mesh_axis)
      if n > 1 and size % (count * n) == 0:
        kept.append(mesh_axis)
        count *= n
    entries.append(tuple(kept) if len(kept) > 1 else kept[0] if kept else None)
  return PartitionSpec(*entries)


def named_sharding(
  mesh: Mesh, axes: tuple[str | None, ...], shape: tuple[int, ...]
) -> NamedSharding:
  """NamedSharding of a tensor of `shape` with logical `axes`."""
  return NamedSharding(mesh, spec(mesh, axes, shape))


def constrain(x: jax.Array, mesh: Mesh | None, *axes: str | None) -> jax.Array:
  """with_sharding_constraint by logical axes; the identity without a mesh."""
  if mesh is None:
    return x
  if AxisType.Manual in jax.sharding.get_abstract_mesh().axis_types:
    raise UserError("a model inside jax.shard_map must have no mesh: use model.clone(mesh=None)")
  return jax.lax.with_sharding_constraint(x, named_sharding(mesh, axes, x.shape))


def to_host(tree):
  """A tree of arrays as numpy's, whole on every process even where they are split over several.

  Every process has to call it, with the same arrays.
  """
  return jax.tree.map(_whole, tree)


def _whole(x) -> np.ndarray:
  if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))
  return np.asarray(x)
