"""Arrays that are constants by definition: differentiating through one is an error, not a zero."""

import functools

import jax
from jax.custom_derivatives import SymbolicZero

from tttjax.errors import UserError


@jax.custom_jvp
def frozen(x: jax.Array) -> jax.Array:
  """x itself; raises UserError where a derivative is asked for of something that x depends on.

  Custom gradients that form no cotangent for x would drop that part of the derivative in silence.
  """
  return x


@functools.partial(frozen.defjvp, symbolic_zeros=True)
def _no_derivative(primals, tangents):
  (x,), (tangent,) = primals, tangents
  if not isinstance(tangent, SymbolicZero):
    raise UserError(
      "cached keys and values are frozen and have no gradient, but what is differentiated depends"
      " on them: give jax.lax.stop_gradient of the weights to prefill, and of the cache or suffix"
      " to what reads it"
    )
  return x, tangent
