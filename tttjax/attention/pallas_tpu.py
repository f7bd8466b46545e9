"""The TPU backend: attention over a stacked cache as one Pallas kernel for all phases, with dq.

The contract is that of `chunked`. The gradient of the slots is formed for short suffixes alone, and
is the portable one; so is the derivative of a gradient.
"""

import jax
from jax import lax
import jax.numpy as jnp

from tttjax.attention import chunked
from tttjax.attention.folding import fold, fold_limits, unfold
from tttjax.attention.kernel_call import over_contexts
from tttjax.attention.merging import MASKED
from tttjax.attention.slot_grid import Kernel

# XLA cannot split a kernel over a mesh: each call has to be within a shard.
SPLIT_BY_XLA = False

backward = chunked.backward


@jax.custom_jvp
def forward(q, keys, values, layer, first, limits):
  """Attention output and logsumexp, as `chunked.forward`."""
  o, lse = _over_slots(_FORWARD, q, keys, values, layer, first, limits)
  return o, lse[..., 0]


@jax.custom_jvp
def backward_q(q, keys, values, layer, first, limits, o, lse, do, dlse):
  """Gradient of the queries, as `chunked.backward_q`."""
  shift = dlse - (do * o).sum(-1)
  rows = do.astype(values.dtype), lse[..., None], shift[..., None]
  (dq,) = _over_slots(_BACKWARD_Q, q, keys, values, layer, first, limits, *rows)
  return dq


@forward.defjvp
def _(primals, tangents):
  return jax.jvp(chunked.forward, primals, tangents)


@backward_q.defjvp
def _(primals, tangents):
  return jax.jvp(chunked.backward_q, primals, tangents)


def _over_slots(kernel, q, keys, values, layer, first, limits, *queries):
  """Outputs [B, T, H, columns] of a kernel, given more arrays [B, T, H, x] beside q."""
  t, kv_heads = q.shape[1], keys.shape[2]
  rows = [fold(x, kv_heads)[None] for x in (q, *queries)]
  limits = fold_limits(jnp.asarray(limits, jnp.int32), q.shape[2] // kv_heads)[None]
  layer = jnp.asarray(layer, jnp.int32).reshape(1)
  first = jnp.asarray(first, jnp.int32)[None]
  outputs = over_contexts(kernel)(layer, first, limits, keys[None], values[None], rows)
  return [unfold(x[0], t) for x in outputs]


def _product(a, b, axis):
  """a's columns contracted with that axis of b, in the wider dtype and summed in float32."""
  dtype = jnp.promote_types(a.dtype, b.dtype)
  # The default would round float32 to bfloat16.
  precision = lax.Precision.HIGHEST if dtype == jnp.float32 else None
  return lax.dot_general(
    a.astype(dtype),
    b.astype(dtype),
    (((1,), (axis,)), ((), ())),
    precision=precision,
    preferred_element_type=jnp.float32,
  )


def _scores(q, k, window):
  """float32 [rows, slots]."""
  return _product(q, k, 1 - window.axis) * q.shape[-1] ** -0.5


def _nothing_seen(scratch):
  """The state of an online softmax before its first block: (o, largest score, sum of weights)."""
  o, top, total = scratch
  o[...] = jnp.zeros_like(o)
  # Above MASKED, so that a row that sees no slot of a block adds exp(MASKED - top) = 0.
  top[...] = jnp.full_like(top, MASKED / 2)
  total[...] = jnp.zeros_like(total)


def _add_block(rows, k, v, window, scratch):
  """One more block of an online softmax."""
  (q,), (o, top, total) = rows, scratch
  scores = window.visible(_scores(q[...], k[...], window), MASKED)
  new_top = jnp.maximum(top[...], scores.max(1, keepdims=True))
  weights = jnp.exp(scores - new_top)
  shrink = jnp.exp(top[...] - new_top)
  part = _product(weights.astype(v.dtype), window.seen(v[...]), window.axis)
  o[...] = o[...] * shrink + part
  total[...] = total[...] * shrink + weights.sum(1, keepdims=True)
  top[...] = new_top


def _finish(scratch, outputs):
  """(o, lse); 0 and MASKED for a row that saw no slot."""
  (o, top, total), (out, lse) = scratch, outputs
  any_slot = total[...] > 0
  sums = jnp.where(any_slot, total[...], 1.0)
  out[...] = o[...] / sums
  lse[...] = jnp.where(any_slot, top[...] + jnp.log(sums), MASKED)


def _no_gradient(scratch):
  (dq,) = scratch
  dq[...] = jnp.zeros_like(dq)


def _add_gradient(rows, k, v, window, scratch):
  """dQ += dS K of a block, dS = P * (dO V^T - sum(dO * O) + dLSE) with P computed again."""
  (q, do, lse, shift), (dq,) = rows, scratch
  keys = window.seen(k[...])
  weights = window.visible(jnp.exp(_scores(q[...], keys, window) - lse[...]), 0.0)
  dweights = _product(do[...], window.seen(v[...]), 1 - window.axis)
  dscores = weights * (dweights + shift[...])
  dq[...] += _product(dscores.astype(keys.dtype), keys, window.axis)


def _scale(scratch, outputs):
  (dq,), (out,) = scratch, outputs
  out[...] = dq[...] * dq.shape[-1] ** -0.5


_FORWARD = Kernel(lambda d: (d, 1), lambda d: (d, 1, 1), _nothing_seen, _add_block, _finish)
_BACKWARD_Q = Kernel(lambda d: (d,), lambda d: (d,), _no_gradient, _add_gradient, _scale)
