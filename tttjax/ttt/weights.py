"""Fast weights: Delta, the float32 change of every layer's query kernel, and a query scale.

Their structure is the model's (tttjax.models.fast_weights); here they begin, and end in W_Q.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tttjax.checks import check_number, is_concrete
from tttjax.decode.arguments import check_model
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, Params
from tttjax.models.fast_weights import check_fast, delta, query_kernels


def init_fast(model: Decoder, params: Params) -> Params:
  """Delta = 0 for every layer: float32 [L, D, H, d], sharded as W_Q is."""
  check_model(model, params)
  return jax.tree.map(lambda w: jnp.zeros_like(w, dtype=jnp.float32), query_kernels(params))


def scaled_queries(model: Decoder, scale: float | jax.Array, fast: Params | None = None) -> Params:
  """Fast weights that multiply the queries of every layer by one factor, after their norm.

  With scale = log T / log T_train, T the context's length and T_train the longest one trained
  on, this is the training-free control of test-time training: it sharpens every query alike,
  so that leads over the distractors grow with log T (paper, section 2), with no regard to the
  context. Prefill takes no fast weights: the cache stays that of the plain model.

  Args:
    scale: above 0; traced, so another value compiles nothing.
    fast: fast weights with a Delta to keep beside it, or None.

  Returns:
    Fast weights for `generate`, `score` and the measurements; not for test-time training.

  Raises:
    UserError: a concrete scale that is not a finite number above 0, fast weights that are none.
  """
  check_fast(model, fast)
  shape = (model.config.num_hidden_layers,)
  check_number("scale", scale, 0, above=True)
  if is_concrete(scale):
    factors = np.full(shape, scale, np.float32)  # in numpy: nothing compiles
  else:
    factors = jnp.full(shape, scale, jnp.float32)
  attention = {} if fast is None else fast["layers"]["attention"]
  return {"layers": {"attention": attention | {"query_scale": factors}}}


def check_trainable(model: Decoder, fast: Params | None, finite: bool = True) -> None:
  """As `check_fast`, and raises UserError where the fast weights hold more than Delta."""
  check_fast(model, fast, finite)
  if fast is not None:
    _check_delta_alone(fast)


def _check_delta_alone(fast: Params) -> None:
  if set(fast["layers"]["attention"]) != {"query"}:
    raise UserError(
      "these fast weights scale the queries (scaled_queries): train or merge those of init_fast"
      " or adapt, and apply the scale afterwards"
    )


def merged_queries(params: Params, fast: Params) -> Params:
  """W_Q + Delta in float32, as a tree of the structure of `fast`, which must hold Delta alone."""
  _check_delta_alone(fast)
  return jax.tree.map(lambda w, d: w.astype(jnp.float32) + d, query_kernels(params), fast)


def merge(model: Decoder, params: Params, fast: Params | None) -> Params:
  """Params whose query kernels are W_Q + Delta in float32; all others are the caller's arrays.

  The kernels stay float32 whatever the model's dtype: bfloat16 would round most of
  Delta away. They may be used wherever params are. Without fast weights, None, they are W_Q.

  Raises:
    UserError: fast weights that are not this model's Delta, or not finite; params that are not
      the model's.
  """
  check_model(model, params)
  check_trainable(model, fast)
  return _merge(params, fast)


@jax.jit
def _merge(params: Params, fast: Params | None) -> Params:
  attention = params["layers"]["attention"]
  if fast is None:
    kernel = attention["query"]["kernel"].astype(jnp.float32)
  else:
    kernel = delta(merged_queries(params, fast))
  merged = attention["query"] | {"kernel": kernel}
  layers = params["layers"] | {"attention": attention | {"query": merged}}
  return params | {"layers": layers}
