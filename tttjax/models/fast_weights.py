"""The fast weights that the decoder takes beside its parameters: what they are, and their check.

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
    if finite and is_concrete(leaf) and not is_finite(leaf):
      raise UserError(
        f"the fast weights' {path} is not finite (NaN or infinity): adapt again with a lower"
        " learning rate, or give None"
      )


def is_finite(x: jax.Array | np.ndarray) -> bool:
  """Whether an array holds neither NaN nor infinity."""
  if isinstance(x, np.ndarray):
    return bool(np.isfinite(x).all())  # nothing compiles
  with jax.ensure_compile_time_eval():  # also where a caller's jit closes over the weights
    return bool(_all_finite(x))


@jax.jit
def _all_finite(x: jax.Array) -> jax.Array:
  return jnp.isfinite(x).all()
