"""The decoder of Qwen3 and its relatives as a Flax Linen module, used functionally.

Two collections: `params` holds the base weights; `ttt` holds the fast weights,
float32: Delta, the change of every layer's query kernel, a scale of the queries, or
both (tttjax.ttt.weights). Without the `ttt` collection the model is the plain one.
What families differ in is in the config (tttjax.models.families). Each tensor is
declared once, here, with its shape and logical axes; initialisation, shardings and
loading derive from that (`abstract_params`).
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from tttjax.attention.backends import Backend, backend_of
from tttjax.attention.phases import SelfAttention
from tttjax.models.decoder_config import DecoderConfig
from tttjax.models.layers_apart import is_apart
from tttjax.models.rope import no_rotations, rotate, rotations
from tttjax.sharding import constrain, named_sharding

Params = dict[str, Any]


def _init(*axes: str | None, scale: float = 0.02):
  return nn.with_logical_partitioning(nn.initializers.normal(scale), axes)


def _as_matrix(product):
  """Kernels of heads are multiplied as matrices: with a third axis, XLA's CPU backend copies the
  kernel transposed, forward or backward. The gradient keeps the kernel itself: reshaped it would be
  a new array, one per layer of the scan."""
  return jax.checkpoint(product, prevent_cse=False)


def _to_heads(x: jax.Array, kernel: jax.Array, **options) -> jax.Array:
  """x [B, T, D] times a kernel [D, H, d]: [B, T, H, d]."""

  @_as_matrix
  def product(x, kernel):
    flat = jnp.matmul(x, kernel.reshape(kernel.shape[0], -1), **options)
    return flat.reshape(*x.shape[:2], *kernel.shape[1:])

  return product(x, kernel)


@_as_matrix
def _from_heads(o: jax.Array, kernel: jax.Array) -> jax.Array:
  """o [B, T, H, d] times a kernel [H, d, D]: [B, T, D]."""
  return o.reshape(*o.shape[:2], -1) @ kernel.reshape(-1, kernel.shape[-1])


class RMSNorm(nn.Module):
  """Root mean square norm over the last axis, float32 inside, cast before the scale as in Qwen3."""

  eps: float
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    ones = nn.with_logical_partitioning(nn.initializers.ones, (None,))
    scale = self.param("scale", ones, (x.shape[-1],), self.dtype)
    x = x.astype(jnp.float32)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.eps)
    return scale * x.astype(self.dtype)


class QueryProjection(nn.Module):
  """x W_Q + x Delta (+ b), summed in float32: [B, T, D] to float32 [B, T, H, d].

  Delta is its own product because an update at the paper's learning rates is
  about a tenth of a bfloat16 ulp of W_Q (paper, section 3; it would be lost in the sum).
  """

  config: DecoderConfig
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c = self.config
    shape = (c.hidden_size, c.num_attention_heads, c.head_dim)
    kernel = self.param("kernel", _init("embed", "heads", None), shape, self.dtype)
    # A merged kernel (W_Q + Delta) stays float32 in a bfloat16 model; accelerators'
    # default precision would round it in the product and lose Delta after all.
    precision = None if kernel.dtype == x.dtype else jax.lax.Precision.HIGHEST
    q = _to_heads(x, kernel, precision=precision, preferred_element_type=jnp.float32)
    if c.qkv_bias:
      q = q + self.param("bias", _init("heads", None), shape[1:], self.dtype).astype(jnp.float32)
    if self.has_variable("ttt", "delta"):
      delta = self.get_variable("ttt", "delta")
      q = q + _to_heads(x.astype(jnp.float32), delta)
    return q


class HeadProjection(nn.Module):
  """The key or value projection: [B, T, D] to [B, T, K, d]."""

  config: DecoderConfig
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c = self.config
    shape = (c.hidden_size, c.num_key_value_heads, c.head_dim)
    kernel = self.param("kernel", _init("embed", "kv_heads", None), shape, self.dtype)
    projected = _to_heads(x, kernel)
    if c.qkv_bias:
      projected = projected + self.param("bias", _init("kv_heads", None), shape[1:], self.dtype)
    return projected


class OutputProjection(nn.Module):
  """The attention output projection: [B, T, H, d] to [B, T, D]."""

  config: DecoderConfig
  dtype: Any

  @nn.compact
  def __call__(self, o: jax.Array) -> jax.Array:
    c = self.config
    shape = (c.num_attention_heads, c.head_dim, c.hidden_size)
    kernel = self.param("kernel", _init("heads", None, "embed"), shape, self.dtype)
    return _from_heads(o.astype(self.dtype), kernel)


class Linear(nn.Module):
  """A matrix without bias, [in, out]."""

  features: int
  axes: tuple[str, str]
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("kernel", _init(*self.axes), (x.shape[-1], self.features), self.dtype)
    return x @ kernel


class Attention(nn.Module):
  """Projections, per-head norms where there are any, and RoPE; what is attended to is the memory's
  business."""

  config: DecoderConfig
  dtype: Any
  mesh: Mesh | None

  def setup(self):
    c = self.config
    self.query = QueryProjection(c, self.dtype)
    self.key = HeadProjection(c, self.dtype)
    self.value = HeadProjection(c, self.dtype)
    if c.qk_norm:
      self.query_norm = RMSNorm(c.rms_norm_eps, self.dtype)
      self.key_norm = RMSNorm(c.rms_norm_eps, self.dtype)
    self.output = OutputProjection(c, self.dtype)

  def __call__(self, x, state, rope, memory, layer):
    q = constrain(self.query(x), self.mesh, "batch", None, "heads", None)
    turn = rope
    if self.has_variable("ttt", "query_scale"):
      # On cos and sin, which are float32: the queries are rounded once, after the rotation.
      turn = tuple(self.get_variable("ttt", "query_scale") * x for x in rope)
    # Without a norm the queries are rounded once too, after the rotation.
    q = rotate(self.query_norm(q) if self.config.qk_norm else q, *turn).astype(self.dtype)

    def project_kv():
      k = self.key(x)
      k = rotate(self.key_norm(k) if self.config.qk_norm else k, *rope)
      axes = ("batch", None, "kv_heads", None)
      return constrain(k, self.mesh, *axes), constrain(self.value(x), self.mesh, *axes)

    if self.is_initializing():
      project_kv()  # a memory that never asks for K and V must not change the parameters
    o, state = memory.attend(state, q, project_kv, layer)
    return self.output(constrain(o, self.mesh, "batch", None, "heads", None)), state


class MLP(nn.Module):
  """The gated MLP: down(silu(gate(x)) * up(x))."""

  config: DecoderConfig
  dtype: Any
  mesh: Mesh | None

  def setup(self):
    c = self.config
    self.gate = Linear(c.intermediate_size, ("embed", "mlp"), self.dtype)
    self.up = Linear(c.intermediate_size, ("embed", "mlp"), self.dtype)
    self.down = Linear(c.hidden_size, ("mlp", "embed"), self.dtype)

  def __call__(self, x):
    inner = nn.silu(self.gate(x)) * self.up(x)
    return self.down(constrain(inner, self.mesh, "batch", None, "mlp"))


class Block(nn.Module):
  """One layer, as the body of the scan: carry (x, memory state)."""

  config: DecoderConfig
  dtype: Any
  mesh: Mesh | None

  def setup(self):
    c = self.config
    self.attention_norm = RMSNorm(c.rms_norm_eps, self.dtype)
    self.attention = Attention(c, self.dtype, self.mesh)
    self.mlp_norm = RMSNorm(c.rms_norm_eps, self.dtype)
    self.mlp = MLP(c, self.dtype, self.mesh)

  def __call__(self, carry, rope, memory, layer):
    x, state = carry
    attended, state = self.attention(self.attention_norm(x), state, rope, memory, layer)
    x = constrain(x + attended, self.mesh, "batch", None, None)
    x = x + self.mlp(self.mlp_norm(x))
    return (constrain(x, self.mesh, "batch", None, None), state), None


class Decoder(nn.Module):
  """A dense decoder, layers scanned.

  Attributes:
    config: the architecture.
    dtype: dtype of parameters and activations; norms, softmax, RoPE and Delta are float32.
    mesh: static and hashable; None on one device and inside a caller's shard_map (which needs
      check_vma=False).
    unroll: unroll the scan over layers, which a model of a few small layers trains faster with; the
      parameters are the same.
    rope: False switches the rotary embedding off, on queries and keys (paper, Table 3). A cache
      belongs to the model that made it: prefill again with `model.clone(rope=False)`.
    attention: the kernels of attention over a cache (tttjax.attention.backends): auto, portable or
      pallas_tpu.
  """

  config: DecoderConfig
  dtype: Any = jnp.float32
  mesh: Mesh | None = None
  unroll: bool = False
  rope: bool = True
  attention: str = "auto"

  def setup(self):
    c = self.config
    self.embed = Embedding(c, self.dtype)
    self.layers = nn.scan(
      Block,
      variable_axes={"params": 0, "ttt": 0},
      split_rngs={"params": True},
      in_axes=(nn.broadcast, nn.broadcast, 0),
      length=c.num_hidden_layers,
      unroll=c.num_hidden_layers if self.unroll else 1,
      metadata_params={nn.PARTITION_NAME: None},
    )(c, self.dtype, self.mesh)
    self.final_norm = RMSNorm(c.rms_norm_eps, self.dtype)
    if not c.tie_word_embeddings:
      self.lm_head = Linear(c.vocab_size, ("embed", "vocab"), self.dtype)

  @property
  def backend(self) -> Backend:
    """How this model's attention over a cache is computed."""
    return backend_of(self.attention, self.mesh)

  def hidden(self, tokens: jax.Array, positions: jax.Array, memory=SelfAttention()):
    """Hidden states before the head.

    Args:
      tokens: int32 [B, T].
      positions: int32 [B, T], RoPE positions.
      memory: what the queries attend to (tttjax.attention.phases).

    Returns:
      (hidden [B, T, D] after the final norm, the memory's last state).
    """
    x = constrain(self.embed(tokens), self.mesh, "batch", None, None)
    rope = rotations(self.config, positions) if self.rope else no_rotations(positions)
    if not self.is_initializing() and is_apart(self.variables["params"]):
      x, state = self._each_layer(x, rope, memory)
    else:
      layers = jnp.arange(self.config.num_hidden_layers, dtype=jnp.int32)
      (x, state), _ = self.layers((x, memory.start()), rope, memory, layers)
    return self.final_norm(x), state

  def _each_layer(self, x, rope, memory):
    """As the scan, of layers apart; the program holds each of them."""
    block = Block(self.config, self.dtype, self.mesh, parent=None)
    carry = x, memory.start()
    for layer in range(self.config.num_hidden_layers):
      own = {name: tree["layers"][layer] for name, tree in self.variables.items()}
      carry, _ = block.apply(own, carry, rope, memory, jnp.int32(layer))
    return carry

  def logits(self, hidden: jax.Array) -> jax.Array:
    """float32 logits [..., V] of hidden states [..., D]. Pass only the rows you need."""
    if self.config.tie_word_embeddings:
      return self.embed.attend(hidden)
    return self.lm_head(hidden).astype(jnp.float32)

  def __call__(self, tokens: jax.Array, positions: jax.Array | None = None) -> jax.Array:
    """Logits float32 [B, T, V] of all rows, without a cache: for training and tests."""
    if positions is None:
      positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
    hidden, _ = self.hidden(tokens, positions)
    return self.logits(hidden)


class Embedding(nn.Module):
  """Token embedding [V, D], also the output matrix of tied models."""

  config: DecoderConfig
  dtype: Any

  def setup(self):
    shape = (self.config.vocab_size, self.config.hidden_size)
    self.embedding = self.param("embedding", _init("vocab", "embed"), shape, self.dtype)

  def __call__(self, tokens: jax.Array) -> jax.Array:
    return jnp.take(self.embedding, tokens, axis=0)

  def attend(self, hidden: jax.Array) -> jax.Array:
    return jnp.einsum("...d,vd->...v", hidden, self.embedding).astype(jnp.float32)


def _boxed(model: Decoder):
  token = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  # The declared axes do not depend on the mesh, and init needs none.
  return jax.eval_shape(model.clone(mesh=None).init, jax.random.key(0), token)["params"]


def abstract_params(model: Decoder) -> Params:
  """Shape, dtype and (with a mesh) NamedSharding of every parameter, without allocating any."""
  boxed = _boxed(model)
  axes = nn.get_partition_spec(boxed)

  def describe(shape: jax.ShapeDtypeStruct, names: PartitionSpec):
    names = tuple(names) + (None,) * (len(shape.shape) - len(names))
    placed = None if model.mesh is None else named_sharding(model.mesh, names, shape.shape)
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=placed)

  return jax.tree.map(describe, nn.meta.unbox(boxed), axes)


def init_params(model: Decoder, key: jax.Array) -> Params:
  """Random parameters of a new model, sharded on its mesh."""
  token = jnp.zeros((1, 1), jnp.int32)
  plain = model.clone(mesh=None)
  shardings = jax.tree.map(lambda x: x.sharding, abstract_params(model))
  init = jax.jit(
    lambda key: nn.meta.unbox(plain.init(key, token)["params"]),
    out_shardings=None if model.mesh is None else shardings,
  )
  return init(key)


def variables(params: Params, fast: Params | None) -> dict[str, Params]:
  """The argument of `model.apply`: base weights, and fast weights where there are any."""
  return {"params": params} if fast is None else {"params": params, "ttt": fast}
