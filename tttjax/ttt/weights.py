"""Fast weights: Delta, the float32 change of every layer's query kernel, and a query scale.

A tree of fast weights holds either or both of

  layers/attention/query/delta     float32 [L, D, H, d], what test-time training learns
  layers/attention/query_scale     float32 [L], a factor on the queries, learned by nothing

Whatever takes fast weights checks them (`check_fast`). Values that are not finite are refused where
they can be seen; under tracing they show in the results: NaN log-probabilities and losses, a row of
`generate` that ends with token -1, a step that is not ok.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tttjax.checks import is_concrete
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, Params


def query_kernels(params: Params) -> Params:
  """The base W_Q of every layer, [L, D, H, d], as a tree of the structure of Delta's."""
  kernel = params["layers"]["attention"]["query"]["kernel"]
  return {"layers": {"attention": {"query": {"delta": kernel}}}}


def delta(fast: Params) -> jax.Array:
  """Delta of every layer, float32 [L, D, H, d]."""
  return fast["layers"]["attention"]["query"]["delta"]


def has_delta(fast: Params | None) -> bool:
  """Whether there is a Delta, whose product x Delta every encoded token pays for."""
  return fast is not None and "query" in fast["layers"]["attention"]


def check_fast(model: Decoder, fast: Params | None, finite: bool = True) -> None:
  """Raises UserError unless `fast` is None or fast weights of this model, whose path it names.

  Structure, shapes and dtypes are static, so this works under tracing too.

  Args:
    finite: concrete values must be finite as well; one reduction over each array.
  """
  if fast is None:
    return
  c = model.config
  declared = {
    "layers/attention/query/delta": (
      c.num_hidden_layers,
      c.hidden_size,
      c.num_attention_heads,
      c.head_dim,
    ),
    "layers/attention/query_scale": (c.num_hidden_layers,),
  }
  leaves = jax.tree_util.tree_leaves_with_path(fast)
  found = {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}
  remedy = "give what init_fast, adapt or scaled_queries returned, or None for none"
  if not found:
    raise UserError(f"the fast weights are empty: {next(iter(declared))} is missing; {remedy}")
  for path, leaf in found.items():
    if path not in declared:
      raise UserError(
        f"the fast weights hold {path or type(fast).__name__}, which is no fast weight; {remedy}"
      )
    shape, dtype = np.shape(leaf), getattr(leaf, "dtype", type(leaf).__name__)
    if shape != declared[path] or dtype != np.float32:
      raise UserError(
        f"the fast weights' {path} is {dtype} {list(shape)} but this model's is float32"
        f" {list(declared[path])}; {remedy}"
      )
    if finite and is_concrete(leaf) and not _finite(leaf):
      raise UserError(
        f"the fast weights' {path} is not finite (NaN or infinity): adapt again with a lower"
        " learning rate, or give None"
      )


def _finite(x: jax.Array | np.ndarray) -> bool:
  if isinstance(x, np.ndarray):
    return bool(np.isfinite(x).all())  # nothing compiles
  with jax.ensure_compile_time_eval():  # also where a caller's jit closes over the weights
    return bool(_all_finite(x))


@jax.jit
def _all_finite(x: jax.Array) -> jax.Array:
  return jnp.isfinite(x).all()


def init_fast(model: Decoder, params: Params) -> Params:
  """Delta = 0 for every layer: float32 [L, D, H, d], sharded as W_Q is."""
  del model
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
  if is_concrete(scale):
    if np.ndim(scale) or not 0 < float(scale) < np.inf:
      raise UserError(f"scale must be a finite number above 0, not {scale}")
    factors = np.full(shape, scale, np.float32)  # in numpy: nothing compiles
  else:
    factors = jnp.full(shape, scale, jnp.float32)
  attention = {} if fast is None else fast["layers"]["attention"]
  return {"layers": {"attention": attention | {"query_scale": factors}}}


def merged_queries(params: Params, fast: Params) -> Params:
  """W_Q + Delta in float32, as a tree of the structure of `fast`, which must hold Delta alone."""
  if set(fast["layers"]["attention"]) != {"query"}:
    raise UserError(
      "these fast weights scale the queries (scaled_queries): train or merge those of init_fast"
      " or adapt, and apply the scale afterwards"
    )
  return jax.tree.map(lambda w, d: w.astype(jnp.float32) + d, query_kernels(params), fast)


def merge(model: Decoder, params: Params, fast: Params) -> Params:
  """Params whose query kernels are W_Q + Delta in float32; all others are the caller's arrays.

  The kernels stay float32 whatever the model's dtype: bfloat16 would round most of
  Delta away. They may be used wherever params are.

  Raises:
    UserError: fast weights that are not this model's Delta, or not finite.
  """
  check_fast(model, fast)
  return _merge(params, fast)


@jax.jit
def _merge(params: Params, fast: Params) -> Params:
  attention = params["layers"]["attention"]
  merged = {"kernel": delta(merged_queries(params, fast))}
  layers = params["layers"] | {"attention": attention | {"query": merged}}
  return params | {"layers": layers}
