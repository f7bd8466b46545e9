"""The programs of a strategy with abstract arguments: shapes, dtypes and shardings, no memory."""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from tttjax.attention.caches import PrefixCache, round_capacity
from tttjax.decode.generation import _generate
from tttjax.decode.prefilling import _prefill
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.models.decoder import Decoder, abstract_params
from tttjax.models.fast_weights import query_kernels
from tttjax.plan.planned_work import PROMPT_TOKENS, Work
from tttjax.sharding import axis_size, named_sharding
from tttjax.ttt.adaptation import _adapt
from tttjax.ttt.history import room_for


@dataclasses.dataclass(frozen=True)
class Program:
  """A jitted function and what it is called with.

  Attributes:
    function, static, arguments: `function(*static, *arguments)`.
    held: bytes per device that it works on, by kind: weights, cache, fast weights.
  """

  function: Callable[..., Any]
  static: tuple[Any, ...]
  arguments: tuple[Any, ...]
  held: dict[str, int]

  def lower(self):
    return self.function.lower(*self.static, *self.arguments)


def programs(model: Decoder, work: Work) -> dict[str, Program]:
  """The phases of `work`, by name, for a model on its mesh."""
  mesh = model.mesh
  shards = axis_size(mesh, "context")
  capacity = round_capacity(work.context, shards)

  def abstract(shape, dtype, *axes):
    placed = None if mesh is None else named_sharding(mesh, axes or (None,) * len(shape), shape)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=placed)

  ids = lambda *shape: abstract(shape, jnp.int32)
  like = lambda tree: jax.tree.map(lambda x: abstract(jnp.shape(x), jnp.asarray(x).dtype), tree)
  key = abstract((), jax.random.key(0).dtype)
  params = abstract_params(model)
  slots = abstract(
    model.config.slots(1, capacity), model.dtype, None, "batch", "kv_heads", "slots", None
  )
  cache = PrefixCache(slots, slots, ids(1, capacity), ids(1), shards)
  fast = jax.tree.map(
    lambda w: jax.ShapeDtypeStruct(w.shape, jnp.float32, sharding=w.sharding), query_kernels(params)
  )
  kinds = {"weights": per_device(params), "cache": per_device((slots, slots))}
  delta = per_device(fast)
  found = {
    "prefill": Program(
      _prefill, (model,), (params, ids(1, capacity), ids(1), ids(1, capacity)), kinds
    )
  }
  if work.adapts:
    cfg = like(work.ttt.traced())
    tokens = ids(1, capacity)
    found["adapt"] = Program(
      _adapt,
      (model, room_for(work.ttt.steps)),
      (params, None, None, cache, tokens, key, None, ids(), ids(), cfg),
      kinds | {"fast weights": 3 * delta},  # Delta and two moments
    )
  rows, size = work.samples, work.new_tokens
  sampling = like(SamplingConfig(max_new_tokens=size).traced(rows))
  found["generate"] = Program(
    _generate,
    (model, size, False),
    (params, fast if work.adapts else None, cache, ids(rows, PROMPT_TOKENS), ids(rows), key)
    + (sampling,),
    kinds | ({"fast weights": delta} if work.adapts else {}),
  )
  return found


def per_device(tree) -> int:
  """Bytes of an abstract tree's arrays on one device."""

  def size(x):
    shape = x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)
    return jnp.dtype(x.dtype).itemsize * math.prod(shape)

  return sum(map(size, jax.tree.leaves(tree)))
