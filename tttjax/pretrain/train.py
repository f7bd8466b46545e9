"""The training step: a masked forward pass, a weighted loss, Muon and Adam."""

from flax import struct
import jax
import jax.numpy as jnp
import optax

from tttjax.attention.folding import fold, unfold
from tttjax.attention.merging import MASKED
from tttjax.models.decoder import Decoder

BLOCKS = 4  # of queries in a row; keys behind a block are never touched
# Axes that a stacked kernel's matrix reduces over and writes to; axis 0 stacks the layers.
_MATRIX_AXES = {
  "query": (1, (2, 3)),
  "key": (1, (2, 3)),
  "value": (1, (2, 3)),
  "output": ((1, 2), 3),
  "gate": (1, 2),
  "up": (1, 2),
  "down": (1, 2),
}


@struct.dataclass
class Segments:
  """Memory of a packed row: a token sees the context and its own segment, causally.

  Attributes:
    segments: int32 [B, T]; 0 is the context, -1 padding.
  """

  segments: jax.Array

  def start(self) -> tuple[()]:
    return ()

  def attend(self, state, q, project_kv, layer):
    del layer
    k, v = project_kv()
    t, kv_heads, d = k.shape[1:]
    group = q.shape[2] // kv_heads
    q, k, v = q * d**-0.5, k.swapaxes(1, 2), v.swapaxes(1, 2)
    parts = []
    for start in range(0, t, t // BLOCKS):
      end = start + t // BLOCKS
      mine, theirs = self.segments[:, start:end, None], self.segments[:, None, :end]
      causal = jnp.arange(start, end)[:, None] >= jnp.arange(end)
      visible = jnp.repeat(((theirs == 0) | (theirs == mine)) & causal, group, axis=1)[:, None]
      scores = jnp.einsum("bkrd,bksd->bkrs", fold(q[:, start:end], kv_heads), k[:, :, :end])
      scores = jnp.where(visible, scores, MASKED)
      scores = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
      o = jnp.einsum("bkrs,bksd->bkrd", scores, v[:, :, :end])
      parts.append(unfold(o / scores.sum(-1, keepdims=True), end - start))
    return jnp.concatenate(parts, axis=1), state


def loss_fn(model: Decoder, params, tokens, positions, segments, weights):
  """Weighted next-token cross-entropy of a batch [B, T].

  Returns:
    (loss in nats per unit of weight, accuracy on the answer tokens), float32 scalars.
  """
  hidden, _ = model.apply(
    {"params": params}, tokens, positions, Segments(segments), method="hidden"
  )
  logits = model.apply({"params": params}, hidden[:, :-1], method="logits")
  targets, weights = tokens[:, 1:], weights[:, 1:]
  nll = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
  answers = weights > 1
  hits = (logits.argmax(-1) == targets) & answers
  return jnp.sum(nll * weights) / jnp.sum(weights), jnp.sum(hits) / jnp.maximum(1, answers.sum())


def matrix_axes(params):
  """Muon's view of each parameter: its matrix axes, or None where Adam is used."""

  def axes(path, _):
    names = [key.key for key in path]
    if names[-1] != "kernel" or names[-2] not in _MATRIX_AXES:
      return None
    return optax.contrib.MuonDimensionNumbers(*_MATRIX_AXES[names[-2]])

  return jax.tree_util.tree_map_with_path(axes, params)


def make_optimizer(muon_rate: float, adam_rate: float, decay: float):
  """Muon on the matrices, Adam on embeddings and norms, at their peak rates."""
  return optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.contrib.muon(
      muon_rate,
      beta=0.95,
      weight_decay=decay,
      adam_learning_rate=adam_rate,
      muon_weight_dimension_numbers=matrix_axes,
    ),
  )


def rate_scale(progress: float, step: int, warmup: int) -> float:
  """What the peak rates are multiplied by: a warm-up, then a fall to 0 over the last third."""
  return min(1.0, (step + 1) / warmup, 3 * (1 - progress))


def make_step(model: Decoder, optimizer):
  """Returns the jitted step (params, opt_state, scale, *batch) -> (params, opt_state, metrics).

  scale is a float32 scalar; metrics is float32 [3]: loss, answer accuracy, gradient norm.
  """

  def step(params, opt_state, scale, tokens, positions, segments, weights):
    (loss, accuracy), grads = jax.value_and_grad(
      lambda p: loss_fn(model, p, tokens, positions, segments, weights), has_aux=True
    )(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = optax.apply_updates(params, jax.tree.map(lambda u: scale * u, updates))
    return params, opt_state, jnp.stack([loss, accuracy, optax.global_norm(grads)])

  return jax.jit(step, donate_argnums=(0, 1))
