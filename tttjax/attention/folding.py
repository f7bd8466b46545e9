"""Grouped-query attention as rows: the query heads of a group share a KV head."""

import jax
import jax.numpy as jnp


def fold(x: jax.Array, kv_heads: int) -> jax.Array:
  """Queries [B, T, H, ...] as rows [B, K, T*G, ...]: the G heads of a group share their keys."""
  b, t, h, *rest = x.shape
  grouped = x.reshape(b, t, kv_heads, h // kv_heads, *rest)
  return jnp.moveaxis(grouped, 2, 1).reshape(b, kv_heads, t * (h // kv_heads), *rest)


def unfold(x: jax.Array, t: int) -> jax.Array:
  """The inverse of `fold`: [B, K, T*G, ...] to [B, T, H, ...]."""
  b, k, rows, *rest = x.shape
  grouped = x.reshape(b, k, t, rows // t, *rest)
  return jnp.moveaxis(grouped, 2, 1).reshape(b, t, k * (rows // t), *rest)


def fold_limits(limits: jax.Array, group: int) -> jax.Array:
  """Limits of queries [B, T] for their folded rows [B, T*G]."""
  return jnp.repeat(limits, group, axis=1)
