"""The arguments that every public function takes: of the right kind, before anything compiles."""

import functools

import jax
import numpy as np

from tttjax.attention.caches import PrefixCache
from tttjax.checks import check_kind
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, abstract_params
from tttjax.sharding import axis_size


def check_model(model, params) -> None:
  """Raises UserError unless `params` are parameters of a model; names the first that is not.

  Shapes are static, so this works under tracing too. Dtypes may differ: merged query kernels are
  float32 in a bfloat16 model.
  """
  remedy = "give the model and the params that from_pretrained returned"
  check_kind("model", model, Decoder, remedy)
  structure, shapes = _expected(model)
  leaves, given = jax.tree.flatten(params)
  if given == structure and all(map(_has_shape, leaves, shapes.values())):
    return
  found = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
  for name, shape in shapes.items():
    if name not in found:
      raise UserError(f"params hold no {name}, which this model has; {remedy}")
    if not _has_shape(found[name], shape):
      raise UserError(
        f"{name} of params has shape {list(np.shape(found[name]))}, this model's"
        f" {list(shape)}; {remedy}"
      )


def check_cache(model: Decoder, cache) -> None:
  """Raises UserError unless `cache` is a context that was read by a model on such a mesh."""
  check_kind("cache", cache, PrefixCache, "give the first of the two values that prefill returns")
  shards = axis_size(model.mesh, "context")
  if cache.shards != shards:
    raise UserError(
      f"the cache was made for a context axis of {cache.shards} devices, this model's has {shards}:"
      f" prefill with this model, or give cache.dealt({shards})"
    )


@functools.lru_cache(maxsize=32)
def _expected(model: Decoder):
  """Structure of the model's parameters, and path -> shape in the order of their leaves."""
  # Without the mesh, whose axes are checked where they are used.
  tree = abstract_params(model.clone(mesh=None))
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return jax.tree.structure(tree), {_name(path): leaf.shape for path, leaf in leaves}


def _name(path) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _has_shape(leaf, shape: tuple[int, ...]) -> bool:
  return getattr(leaf, "shape", None) == shape
