"""How much of their attention the suffix's queries give to the evidence, and by what lead."""

from flax import struct
import jax
import jax.numpy as jnp

from tttjax.attention import MASKED, merge
from tttjax.attention.caches import PrefixCache
from tttjax.attention.phases import causal_limits, slot_major
from tttjax.checks import as_array, crop
from tttjax.decode.suffix import align_left, align_right, encode, new_suffix
from tttjax.mechanism.probe import MarkedSuffix, check_rows, marks_by_prefix
from tttjax.models.decoder import Decoder, Params
from tttjax.models.fast_weights import check_fast
from tttjax.together import program


@struct.dataclass
class AttentionStatistics:
  """Attention of suffix queries on evidence in the context (paper, section 2 and appendix).

  All float32 [R, L, H, S], over prefix and suffix, 0 beyond a row's length. Where a query sees
  no evidence the mass is 0, the margin and the lead are -inf.

  Attributes:
    mass: share of the softmax on the evidence, sigmoid(margin).
    margin: gamma (nats), logsumexp of the evidence's scaled scores minus that of all others.
    lead: logsumexp of the evidence's scaled scores minus the largest of all others (nats). A lead
      of required_lead(T, eps) guarantees a mass of 1-eps.
  """

  mass: jax.Array
  margin: jax.Array
  lead: jax.Array


@struct.dataclass
class _Probe(MarkedSuffix):
  """Suffix attention that also records margin and lead, float32 [L, R, S, H], by layer."""

  margin: jax.Array | None = None
  lead: jax.Array | None = None

  def start(self):
    return *super().start(), self.margin, self.lead

  def attend(self, state, q, project_kv, layer):
    keys, values, margin, lead = state
    kv = self.write((keys, values), slot_major(project_kv()), layer)
    limits = causal_limits(self.suffix.offset, q)
    evidence, others, top = self.attend_apart(q, kv, self.prefix.values, layer, limits)
    score = jnp.where(evidence[1] > MASKED, evidence[1], -jnp.inf)
    margin = margin.at[layer].set(score - others[1])
    lead = lead.at[layer].set(score - top)
    o, _ = merge(*evidence, *others)
    return o, (*kv, margin, lead)


def attention_statistics(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  tokens: jax.Array,
  lengths: jax.Array | None,
  evidence: jax.Array,
) -> AttentionStatistics:
  """Mass, margin and lead of each suffix query on the evidence, in one pass over the cache.

  Args:
    fast: fast weights, or None.
    cache: contexts, batch B.
    tokens: int [R, S], right-padded, R = n*B as in `generate`.
    lengths: int [R]; None means S.
    evidence: bool [R, T], the context slots of each row's evidence, T <= capacity.

  Returns:
    AttentionStatistics, float32 [R, L, H, S] each.

  Raises:
    UserError: a suffix that `score` would refuse, or evidence of another shape.
  """
  check_fast(model, fast)
  tokens = as_array("tokens", tokens)
  padded, lengths, evidence = check_rows(model, cache, tokens, lengths, evidence)
  statistics = _statistics(model, params, fast, cache, padded, lengths, evidence)
  return jax.tree.map(lambda x: crop(x, tokens.shape[1]), statistics)


def attention_mass(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  tokens: jax.Array,
  lengths: jax.Array | None,
  evidence: jax.Array,
) -> jax.Array:
  """The `mass` of `attention_statistics` alone, float32 [R, L, H, S]."""
  return attention_statistics(model, params, fast, cache, tokens, lengths, evidence).mass


@program(static=1)
def _statistics(model, params, fast, cache, tokens, lengths, evidence):
  rows, width = tokens.shape
  shape = (cache.keys.shape[0], rows, width, model.config.num_attention_heads)
  zeros = jnp.zeros(shape, jnp.float32)
  _, _, (_, _, margin, lead) = encode(
    model,
    params,
    fast,
    cache,
    new_suffix(model, cache, lengths, width, 0),
    align_right(tokens, lengths),
    _Probe,
    marks=marks_by_prefix(evidence, cache.lengths.shape[0]),
    margin=zeros,
    lead=zeros,
  )
  # [L, R, S, H] -> [R, L, H, S]
  place = lambda x: align_left(x, lengths, axis=2).transpose(1, 0, 3, 2)
  mass = place(jax.nn.sigmoid(margin))
  return AttentionStatistics(mass, place(margin), place(lead))
