"""Attention over slots of which this call has written the newest, differentiable in those too."""

import jax
from jax import lax
import jax.numpy as jnp

from tttjax.attention import chunked


def attend_written(q, k, v, keys, values, layer, first, limit, offset):
  """Attention of query rows over a cache that is not split and already holds k and v.

  Args:
    q, layer, first, limit: as `attend_cache`.
    k, v: [B, K, T, d], the keys and values in slots offset .. offset + T - 1 of the layer: only
      the gradient reads them.
    keys, values: [L, B, K, S, d], after they were written. Their other slots are constants.
    offset: int32 scalar, traced.

  Returns:
    o float32 [B, K, R, d] and lse float32 [B, K, R], differentiable in q, k and v.
  """
  keys, values = lax.stop_gradient((keys, values))
  return _attend(q, k, v, keys, values, layer, first, limit, offset)


@jax.custom_vjp
def _attend(q, k, v, keys, values, layer, first, limit, offset):
  del k, v, offset
  return chunked.forward(q, keys, values, layer, first, limit)


def _attend_fwd(q, k, v, keys, values, layer, first, limit, offset):
  o, lse = chunked.forward(q, keys, values, layer, first, limit)
  # The layer alone: these slots are carried through the layers, so that autodiff keeps what is
  # saved here once per layer.
  keys, values = (lax.dynamic_index_in_dim(slots, layer, 0) for slots in (keys, values))
  return (o, lse), (q, k, v, keys, values, first, limit, offset, o, lse)


def _attend_bwd(residuals, cotangents):
  q, k, v, keys, values, first, limit, offset, o, lse = residuals
  zero = jnp.zeros((), jnp.int32)
  dq, *dkv = chunked.backward(q, keys, values, zero, first, limit, o, lse, *cotangents)
  dk, dv = (lax.dynamic_slice_in_dim(d, offset, k.shape[2], axis=2) for d in dkv)
  frozen = (None,) * 6
  return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), *frozen


_attend.defvjp(_attend_fwd, _attend_bwd)
