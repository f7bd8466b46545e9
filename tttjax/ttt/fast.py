"""Fast weights: Delta, the float32 change of every layer's query kernel, and merging it."""

import functools

import jax
import jax.numpy as jnp

from tttjax.qwen3.model import Params, Qwen3


def query_kernels(params: Params) -> Params:
  """The base W_Q of every layer, [L, D, H, d], as a tree of the structure of the fast weights."""
  kernel = params["layers"]["attention"]["query"]["kernel"]
  return {"layers": {"attention": {"query": {"delta": kernel}}}}


def delta(fast: Params) -> jax.Array:
  """Delta of every layer, float32 [L, D, H, d]."""
  return fast["layers"]["attention"]["query"]["delta"]


def init_fast(model: Qwen3, params: Params) -> Params:
  """Delta = 0 for every layer: float32 [L, D, H, d], sharded as W_Q is."""
  del model
  return jax.tree.map(lambda w: jnp.zeros_like(w, dtype=jnp.float32), query_kernels(params))


def merged_queries(params: Params, fast: Params) -> Params:
  """W_Q + Delta in float32, as a tree of the structure of `fast`."""
  return jax.tree.map(lambda w, d: w.astype(jnp.float32) + d, query_kernels(params), fast)


@functools.partial(jax.jit, static_argnums=0)
def merge(model: Qwen3, params: Params, fast: Params) -> Params:
  """Params whose query kernels are W_Q + Delta in float32; all others are the caller's arrays.

  The kernels stay float32 whatever the model's dtype: bfloat16 would round most of
  Delta away. They may be used wherever params are.
  """
  del model
  attention = params["layers"]["attention"]
  merged = {"kernel": delta(merged_queries(params, fast))}
  layers = params["layers"] | {"attention": attention | {"query": merged}}
  return params | {"layers": layers}
