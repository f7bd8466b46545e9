"""Full-parameter test-time training: every weight, the whole context (paper, section 3).

The baseline that query-only training replaces. Each step encodes the context again and changes
the weights that made its keys and values, so that a cache lasts for no more than one step.
"""

import functools

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

from tttjax.attention import attend_dense
from tttjax.attention.caches import SLOT_MULTIPLE, round_capacity
from tttjax.attention.phases import SelfAttention, slot_major
from tttjax.checks import check_tokens, crop, is_concrete, pad_to
from tttjax.decode.arguments import check_model
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, Params, variables
from tttjax.sharding import axis_size
from tttjax.together import program
from tttjax.ttt.adamw import guarded_update, optimizer
from tttjax.ttt.history import StepMetrics, room_for, run_steps
from tttjax.ttt.hyperparameters import TTTConfig, check_config

# Rows of queries, and of logits, held at once.
_ROWS = SLOT_MULTIPLE


def full_ttt(
  model: Decoder,
  params: Params,
  tokens: jax.Array,
  lengths: jax.Array | None,
  cfg: TTTConfig,
) -> tuple[Params, StepMetrics]:
  """cfg.steps AdamW steps on all weights, each on the next-token loss of the whole context.

  One jitted loop; the caller's arrays stay. A cache made before is of no use afterwards: prefill
  again with the returned params.

  Memory is flat in T but for the activations of the layers: scores and logits are held for 128
  rows at a time and computed again in the backward pass. Beside the activations it holds the
  weights in float32 some five times: masters, gradients, AdamW's two moments and update.

  Executed are, for C the context's padded width (`round_capacity`), 3 times the products with
  weights of C rows, one more with the vocabulary (the logits again) and 8 attention products of
  C x C pairs. `flops.full_ttt_step` counts T - 1 rows and causal pairs, the logits once and 7
  products: it leaves out the logits and the weighted sum of values that are computed again.

  Args:
    model, params: the base model, which is not changed.
    tokens: int [1, T], the context, right-padded.
    lengths: int [1], traced; None means T. At least 2, a token and its target.
    cfg: hyperparameters as of `adapt`; span and span_kv are not used.

  Returns:
    Params in float32, whatever the model's dtype: bfloat16 weights would not move at these rates.
    A bfloat16 model uses them as `model.clone(dtype=jnp.float32)`.
    The history: StepMetrics of arrays [N]; start is 0. A step that is not finite has ok False and
    changed nothing.

  Raises:
    UserError: more than one context, fewer than two tokens, ids outside the vocabulary, positions
      beyond the model's range.
  """
  check_model(model, params)
  check_config(cfg)
  config = model.config
  tokens, lengths = check_tokens("the context", tokens, config.vocab_size, lengths)
  batch, width = tokens.shape
  if batch != 1:
    raise UserError(f"full-parameter training takes one context, not tokens of batch {batch}")
  if is_concrete(lengths):
    length = int(np.asarray(lengths)[0])
    if length < 2:
      raise UserError("full-parameter training needs a context of at least 2 tokens, not 1")
    if length > config.max_positions:
      raise UserError(
        f"the context has {length} tokens but max_position_embeddings and YaRN in"
        f" config.json allow {config.max_positions}: shorten it"
      )
  capacity = round_capacity(width, axis_size(model.mesh, "context"))
  params, history = _full_ttt(
    model,
    room_for(cfg.steps),
    params,
    pad_to(tokens, capacity),
    jnp.asarray(lengths, jnp.int32)[0],
    jnp.asarray(cfg.steps, jnp.int32),
    cfg.traced(),
  )
  return params, jax.tree.map(lambda x: crop(x, cfg.steps), history)


@struct.dataclass
class _BlockedSelfAttention(SelfAttention):
  """SelfAttention in blocks of queries, whose scores the backward pass computes again."""

  def attend(self, state, q, project_kv, layer):
    del layer
    k, v = slot_major(project_kv())
    b, t = q.shape[:2]

    @functools.partial(jax.checkpoint, prevent_cse=False)  # a loop's body needs no barrier
    def block(part):
      q, limits = part  # [B, _ROWS, H, d], [_ROWS]
      limits = jnp.broadcast_to(limits, (b, _ROWS))
      o, _ = attend_dense(q, k, v, jnp.zeros((b,), jnp.int32), limits)
      return o

    blocks = jnp.moveaxis(q.reshape(b, -1, _ROWS, *q.shape[2:]), 1, 0)
    o = lax.map(block, (blocks, jnp.arange(1, t + 1).reshape(-1, _ROWS)))
    return jnp.moveaxis(o, 0, 1).reshape(q.shape), state


def _context_loss(
  model: Decoder, params: Params, tokens: jax.Array, length: jax.Array
) -> jax.Array:
  """Mean cross-entropy, nats, of tokens[0, 1:length] of [1, C] given the tokens before each."""
  compute = jax.tree.map(lambda w: w.astype(model.dtype), params)
  positions = jnp.arange(tokens.shape[1], dtype=jnp.int32)
  hidden, _ = model.apply(
    variables(compute, None), tokens, positions[None], _BlockedSelfAttention(), method="hidden"
  )

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def rows(part):
    hidden, targets = part
    logits = model.apply(variables(compute, None), hidden, method="logits")
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets)

  split = lambda x: x.reshape(-1, _ROWS, *x.shape[1:])
  losses = lax.map(rows, (split(hidden[0]), split(jnp.roll(tokens[0], -1)))).reshape(-1)
  return jnp.where(positions < length - 1, losses, 0.0).sum() / (length - 1)


@program(static=2)
def _full_ttt(model, room, params, tokens, length, steps, cfg):
  def step(i, params, opt_state):
    del i
    loss, grads = jax.value_and_grad(lambda p: _context_loss(model, p, tokens, length))(params)
    start = jnp.zeros((), jnp.int32)
    return guarded_update(cfg, params, opt_state, params, loss, grads, start)

  params = jax.tree.map(lambda w: w.astype(jnp.float32), params)
  params, _, history = run_steps(step, params, optimizer(cfg).init(params), steps, room)
  return params, history
