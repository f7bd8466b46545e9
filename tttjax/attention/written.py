"""Attention over slots of which this call has written the newest, differentiable in those too."""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from tttjax.attention import cached
from tttjax.attention.backends import Backend


def attend_written(q, k, v, keys, values, layer, first, limits, offset, backend=Backend()):
  """Attention of queries over slots that already hold k and v; they are never split over a mesh.

  Args:
    q, layer, first, limits: as of `attend_cache`.
    k, v: [B, K, T, d], the keys and values in slots offset .. offset + T - 1 of the layer: only
      the gradient reads them.
    keys, values: [L, B, K, S, d], after they were written. No cotangent is formed for them: that
      of k and v stands for it. A tangent passes, as the derivative of a gradient needs.
    offset: int32 scalar, traced.
    backend: static; the kernels, and the mesh that they may have to be called on.

  Returns:
    o float32 [B, T, H, d] and lse float32 [B, T, H], differentiable in q, k and v; twice by
    forward over reverse.
  """
  return _attend(q, k, v, keys, values, layer, first, limits, offset, backend)


@functools.partial(jax.custom_vjp, nondiff_argnums=(9,))
def _attend(q, k, v, keys, values, layer, first, limits, offset, backend):
  del k, v, offset
  return cached.forward(q, keys, values, layer, first, limits, backend, split=False)


def _attend_fwd(q, k, v, keys, values, layer, first, limits, offset, backend):
  o, lse = cached.forward(q, keys, values, layer, first, limits, backend, split=False)
  # The layer alone: these slots are carried through the layers, so that autodiff keeps what is
  # saved here once per layer.
  keys, values = (lax.dynamic_index_in_dim(slots, layer, 0) for slots in (keys, values))
  return (o, lse), (q, k, v, keys, values, first, limits, offset, o, lse)


def _attend_bwd(backend, residuals, cotangents):
  q, k, v, keys, values, first, limits, offset, o, lse = residuals
  zero = jnp.zeros((), jnp.int32)
  dq, *dkv = backend.kernels.backward(q, keys, values, zero, first, limits, o, lse, *cotangents)
  dk, dv = (lax.dynamic_slice_in_dim(d, offset, k.shape[2], axis=2) for d in dkv)
  frozen = (None,) * 6
  return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), *frozen


_attend.defvjp(_attend_fwd, _attend_bwd)
