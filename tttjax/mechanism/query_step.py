"""Lemma 3.2 of the paper, checked on real queries: what a small step on a query gains."""

import functools

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from tttjax.attention import merge
from tttjax.attention.caches import PrefixCache
from tttjax.attention.phases import Suffix
from tttjax.checks import as_array, check_number
from tttjax.decode.suffix import align_right, encode, new_suffix
from tttjax.errors import UserError
from tttjax.mechanism.probe import MarkedSuffix, check_rows, marks_by_prefix
from tttjax.models.decoder import Decoder, Params
from tttjax.models.fast_weights import check_fast


@struct.dataclass
class QueryStep:
  """One descent step on l = -log(mass on the evidence) in the query of each row's last token.

  Attributes:
    log_mass: float32 [R, H], before the step.
    grad: float32 [R, H, d], dl/dq = (mu - mu_evidence) / sqrt(d), where mu is the
      attention-weighted mean of all keys and mu_evidence that of the evidence's.
    gain: float32 [R, H, E], measured change of log mass at q - eta * grad, for each eta.
    predicted: float32 [R, H, E], eta |grad|^2. gain / predicted tends to 1 as eta tends to 0; below
      about 1e-4 nats rounding of log_mass drowns the gain.
  """

  log_mass: jax.Array
  grad: jax.Array
  gain: jax.Array
  predicted: jax.Array


@struct.dataclass
class _KeepQuery(Suffix):
  """The plain suffix, which also keeps each row's last query [R, H, d] in layer `at`."""

  at: jax.Array | None = None
  query: jax.Array | None = None

  def start(self):
    return *super().start(), self.query

  def attend(self, state, q, project_kv, layer):
    o, kv = super().attend(state[:2], q, project_kv, layer)
    # Rows are aligned at their end, so the last column holds every row's last token.
    query = jnp.where(layer == self.at, q[:, -1].astype(jnp.float32), state[2])
    return o, (*kv, query)


def query_step_check(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  tokens: jax.Array,
  lengths: jax.Array | None,
  evidence: jax.Array,
  layer: int,
  etas: jax.Array,
) -> QueryStep:
  """A step of each size `etas` on the last token's query (after norm and RoPE) in one layer.

  Args:
    fast, cache, tokens, lengths, evidence: as `attention_statistics`; every row needs evidence.
    layer: 0-based, traced.
    etas: float [E], step sizes, traced.

  Returns:
    QueryStep, per row and head.

  Raises:
    UserError: a suffix or evidence that `attention_statistics` would refuse, a layer the model
      does not have, etas of another shape.
  """
  check_fast(model, fast)
  tokens, lengths, evidence = check_rows(model, cache, tokens, lengths, evidence)
  check_number("layer", layer, 0, model.config.num_hidden_layers - 1, whole=True)
  etas = as_array("etas", etas)
  if np.ndim(etas) != 1:
    raise UserError(f"etas must have shape [steps], not {np.shape(etas)}")
  layer, etas = jnp.asarray(layer, jnp.int32), jnp.asarray(etas, jnp.float32)
  return _query_step(model, params, fast, cache, tokens, lengths, evidence, layer, etas)


@functools.partial(jax.jit, static_argnums=0)
def _query_step(model, params, fast, cache, tokens, lengths, evidence, layer, etas):
  rows, width = tokens.shape
  heads, dim = model.config.num_attention_heads, model.config.head_dim
  _, suffix, (*_, query) = encode(
    model,
    params,
    fast,
    cache,
    new_suffix(model, cache, lengths, width, 0),
    align_right(tokens, lengths),
    _KeepQuery,
    at=layer,
    query=jnp.zeros((rows, heads, dim), jnp.float32),
  )
  marks = marks_by_prefix(evidence, cache.lengths.shape[0])
  probe = MarkedSuffix(cache, suffix, model.backend, marks=marks)

  def means_and_log_mass(q):
    """Mean keys [R, T, H, d] of everything and of the evidence, log mass [R, T, H]."""
    # The keys take the values' place: the attention output is the weighted mean key.
    kv = suffix.keys, suffix.keys
    limits = jnp.broadcast_to(suffix.offset, q.shape[:2])
    evidence, others, _ = probe.attend_apart(q, kv, cache.keys, layer, limits)
    everything, _ = merge(*evidence, *others)
    log_mass = jax.nn.log_sigmoid(evidence[1] - others[1])
    return everything, evidence[0], log_mass

  # Accelerators' default precision would round q - eta * grad back to q.
  with jax.default_matmul_precision("float32"):
    mean, mean_evidence, log_mass = means_and_log_mass(query[:, None])
    grad = (mean - mean_evidence) * dim**-0.5  # [R, 1, H, d]
    _, _, stepped = means_and_log_mass(query[:, None] - etas[:, None, None] * grad)
  gain = (stepped - log_mass).swapaxes(1, 2)
  grad = grad[:, 0]
  predicted = etas * jnp.sum(grad * grad, axis=-1, keepdims=True)
  return QueryStep(log_mass[:, 0], grad, gain, predicted)
