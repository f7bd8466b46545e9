"""What the queries attend to, measured from the cache without a [T, T] matrix."""

import functools

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from tttjax.attention import merge
from tttjax.cache import PrefixCache
from tttjax.decode.suffix import align_right, check_suffix, encode, new_suffix
from tttjax.errors import UserError
from tttjax.memory import Suffix, unfold
from tttjax.prefill import crop, pad_to
from tttjax.qwen3.model import Params, Qwen3


@struct.dataclass
class _MassProbe(Suffix):
  """Suffix attention that also records the attention mass on marked prefix slots.

  Attributes:
    marks: float32 [L, B, K, capacity, n], 1 on row j's evidence in column j: used as values,
      the attention output is the mass.
    mass: float32 [L, R, S, H], filled layer by layer.
  """

  marks: jax.Array | None = None
  mass: jax.Array | None = None

  def start(self):
    return self.keys, self.values, self.mass

  def attend(self, state, q, project_kv, layer):
    keys, values, mass = state
    part, (keys, values) = self.attend_suffix((keys, values), q, project_kv, layer)
    o, _ = merge(*self.attend_prefix(q, layer), *part)
    on_marks, lse = self.attend_prefix(q, layer, self.marks)
    n = self.marks.shape[-1]
    own = jnp.arange(q.shape[0]) % n
    on_marks = jnp.take_along_axis(on_marks, own[:, None, None, None], axis=-1)
    share, _ = merge(on_marks, lse, jnp.zeros_like(on_marks), part[1])
    mass = mass.at[layer].set(unfold(share, q.shape[1])[..., 0])
    return unfold(o, q.shape[1]), (keys, values, mass)


def attention_mass(
    model: Qwen3,
    params: Params,
    fast: Params | None,
    cache: PrefixCache,
    tokens: jax.Array,
    lengths: jax.Array | None,
    evidence: jax.Array,
) -> jax.Array:
  """Attention mass of each suffix query on the evidence (paper, section 2 and appendix).

  Args:
    fast: fast weights, or None.
    cache: contexts, batch B.
    tokens: int [R, S], right-padded, R = n*B as in `generate`.
    lengths: int [R]; None means S.
    evidence: bool [R, T], the context slots of each row's evidence, T <= capacity.

  Returns:
    float32 [R, L, H, S]: share of the softmax, over prefix and suffix, on the evidence; 0
    beyond a row's length.
  """
  width = tokens.shape[1] if np.ndim(tokens) == 2 else 0
  padded, lengths = check_suffix(model, cache, tokens, lengths, 0)
  if np.ndim(evidence) != 2 or evidence.shape[0] != padded.shape[0]:
    raise UserError(f"evidence must be bool [{padded.shape[0]}, T], not {np.shape(evidence)}")
  if evidence.shape[1] > cache.capacity:
    raise UserError(f"evidence marks {evidence.shape[1]} slots of {cache.capacity}")
  marks = pad_to(evidence, cache.capacity)
  return crop(_attention_mass(model, params, fast, cache, padded, lengths, marks), width)


@functools.partial(jax.jit, static_argnums=0)
def _attention_mass(model, params, fast, cache, tokens, lengths, evidence):
  rows, width = tokens.shape
  layers, batch, kv_heads, capacity, _ = cache.keys.shape
  marks = evidence.astype(jnp.float32).reshape(batch, rows // batch, capacity).swapaxes(1, 2)
  marks = jnp.broadcast_to(marks[None, :, None], (layers, batch, kv_heads, *marks.shape[1:]))
  _, _, (_, _, mass) = encode(
      model,
      params,
      fast,
      cache,
      new_suffix(model, cache, lengths, width, 0),
      align_right(tokens, lengths),
      _MassProbe,
      marks=marks,
      mass=jnp.zeros((layers, rows, width, model.config.num_attention_heads), jnp.float32),
  )
  # Back from aligned to right-padded columns.
  source = jnp.minimum(jnp.arange(width) + (width - lengths)[:, None], width - 1)
  mass = jnp.take_along_axis(mass, source[None, :, :, None], axis=2)
  valid = jnp.arange(width) < lengths[:, None]
  return jnp.where(valid[None, :, :, None], mass, 0.0).transpose(1, 0, 3, 2)
