"""Model FLOPs: the matrix products that each phase of the method needs, as exact integers.

Counted, at 2 FLOPs per multiply-add: the products with W_Q, W_K, W_V, W_O, the gated MLP (three
matrices), Delta, the vocabulary projection, and attention's scores and weighted sum of values
over the *causal* query-key pairs only, whatever backend runs them. Grouped queries shrink W_K and
W_V, not attention itself.

Excluded is all that is not a matrix product: norms, RoPE, softmax, SiLU, residual sums,
cross-entropy, sampling, the embedding lookup, clipping and AdamW.

Every count is a sum of a few terms, each linear in the rows encoded, the query-key pairs attended
or the rows of logits (tttjax.flops.terms); the functions here say how many of each a phase has.
What a backend really executes, masked pairs included, is tttjax.flops.dense_counts.

Symbols: D hidden, H query heads, K kv heads, d head_dim, F mlp, V vocabulary, L layers, T context
tokens, k span, N steps, M thinking tokens, t a span's start.
"""

from collections.abc import Sequence
import operator

from tttjax.errors import UserError
from tttjax.flops import terms
from tttjax.models.decoder_config import DecoderConfig


def _exact(minimum: int, **counts: int) -> list[int]:
  """The counts as Python integers, which never overflow as NumPy's do, each >= `minimum`."""
  for name, value in counts.items():
    if value < minimum:
      raise UserError(f"{name}={value} must be at least {minimum}")
  return [operator.index(value) for value in counts.values()]


# Phases. -----------------------------------------------------------------------------------------


def prefill(config: DecoderConfig, context: int) -> int:
  """FLOPs of encoding `context` = T tokens, causal, with one row of logits.

  Per layer T (2 D H d + 4 D K d + 2 H d D + 6 D F) and 4 H d T (T + 1) / 2; once 2 D V.

  Raises:
    UserError: context < 1.
  """
  (context,) = _exact(1, context=context)
  return terms.forward(config, context, terms.causal_pairs(0, context), 1, delta=False)


def decode(
  config: DecoderConfig,
  context: int,
  prompt_tokens: int,
  new_tokens: int,
  delta: bool,
  plain_rows: int = 0,
) -> int:
  """FLOPs of one row of `generate` after a cache of `context` tokens, the prefill excluded.

  The prompt is encoded in parallel at positions T, T + 1, ..., then each new token is fed back,
  but for the last one, which nothing follows: prompt_tokens + new_tokens - 1 rows pass the layers.
  There are new_tokens rows of logits: the prompt's last row and that of each token fed back.

  Args:
    config: architecture.
    context: T >= 0, tokens in the frozen cache.
    prompt_tokens: tokens encoded after the cache, >= 1.
    new_tokens: tokens generated, stop and forced tokens included; 0 only encodes the prompt.
    delta: whether fast weights are present, whose own product x Delta every row then pays.
    plain_rows: rows of the prompt that are encoded without them all the same.

  Raises:
    UserError: a count is out of range.
  """
  context, new_tokens, plain_rows = _exact(
    0, context=context, new_tokens=new_tokens, plain_rows=plain_rows
  )
  (prompt_tokens,) = _exact(1, prompt_tokens=prompt_tokens)
  rows = prompt_tokens + max(new_tokens - 1, 0)
  whole = terms.forward(config, rows, terms.causal_pairs(context, rows), new_tokens, delta)
  return whole - delta * plain_rows * terms.query_row(config)


def beam(
  config: DecoderConfig,
  context: int,
  prompt_tokens: int,
  new_tokens: int,
  beams: int,
  delta: bool,
) -> int:
  """FLOPs of one row of `beam_search`: the prompt is encoded once, then each beam for itself.

  Args:
    config, context, prompt_tokens: as `decode`.
    new_tokens: steps of the search, >= 1; each extends every beam by one token.
    beams: n, >= 1.
    delta: whether fast weights are present, as `decode`.

  Raises:
    UserError: a count is out of range.
  """
  new_tokens, beams = _exact(1, new_tokens=new_tokens, beams=beams)
  once = decode(config, context, prompt_tokens, 1, delta)
  one_beam = decode(config, context, prompt_tokens, new_tokens, delta)
  return once + beams * (one_beam - once)


def ttt_step(
  config: DecoderConfig,
  context: int,
  span: int,
  start: int | None = None,
  span_kv: str = "frozen",
) -> int:
  """FLOPs of one query-only step on k = `span` inputs at positions t..t+k-1 (paper, Algorithm 1).

  With P = k t + k (k + 1) / 2 query-key pairs, and each layer counted:

    forward    x W_Q                      2 k D H d
               x Delta                    2 k D H d
               scores, values             4 H d P
               W_O, gated MLP             2 k (H d D + 3 D F)
               logits of all k rows       2 k D V, once
    backward   dx through the vocabulary  2 k D V, once
               dx through MLP, W_O        2 k (H d D + 3 D F)
               scores again, dp, dq       6 H d P
               dx through W_Q and Delta   4 k D H d
               dDelta                     2 k D H d

  No weight but Delta gets a gradient. The scores are recomputed in the backward pass because no
  backend that keeps memory flat in T can store them. Every layer is charged the dx through W_Q and
  Delta, as the scan over layers runs it, though nothing below the first layer is trained.

  span_kv="recomputed" encodes the span's own keys and values again and differentiates through
  them: K,V projections forward and their dx, 8 k D K d, and dk, dv over the k (k + 1) / 2 pairs
  inside the span, 4 H d each.

  Args:
    config: architecture.
    context: T, tokens of the context; the k targets end at most at its last token.
    span: k, inputs (and targets) of the span.
    start: t, the first input's position, 0..T-k-1; None is the exact mean over uniform starts,
      for which the mean of P is k T / 2.
    span_kv: "frozen" (the paper's) or "recomputed".

  Raises:
    UserError: the span does not fit the context, or span_kv is unknown.
  """
  span, context = _exact(1, span=span, context=context)
  last_start = context - span - 1
  if last_start < 0:
    raise UserError(
      f"span={span} inputs and their targets need a context of at least {span + 1} tokens,"
      f" not {context}; use a smaller span"
    )
  if start is None:
    # A step's count is linear in its start, so the mean over uniform starts is that of the ends.
    ends = [ttt_step(config, context, span, end, span_kv) for end in (0, last_start)]
    return sum(ends) // 2
  start = operator.index(start)
  if not 0 <= start <= last_start:
    raise UserError(
      f"start={start} of a span of {span} in a context of {context} tokens must be in"
      f" 0..{last_start}"
    )

  attention = 5 * terms.causal_pairs(start, span)
  if span_kv == "recomputed":
    attention += 2 * terms.causal_pairs(0, span)  # dk, dv
  return terms.step_linear(config, span, span_kv) + attention * terms.pair(config)


def adapt(
  config: DecoderConfig,
  context: int,
  span: int,
  steps: int,
  starts: Sequence[int] | None = None,
  span_kv: str = "frozen",
) -> int:
  """FLOPs of N = `steps` steps: of the given `starts` [N], or the mean over uniform starts.

  Raises:
    UserError: as `ttt_step`, or the number of starts is not `steps`.
  """
  (steps,) = _exact(0, steps=steps)
  if starts is None:
    return steps * ttt_step(config, context, span, span_kv=span_kv)
  if len(starts) != steps:
    raise UserError(f"{len(starts)} starts for {steps} steps; give one start per step")
  return sum(ttt_step(config, context, span, start, span_kv) for start in starts)


def full_ttt_step(config: DecoderConfig, context: int) -> int:
  """FLOPs of one full-parameter step over the whole context of T tokens (paper section 3).

  All weights train, so every product with a weight costs three times its forward: forward, dx, dW.
  Attention costs 4 H d forward and 10 H d backward (scores again, dp, dq, dk, dv) per pair and
  layer. T - 1 inputs have a target.

  Raises:
    UserError: context < 2.
  """
  (context,) = _exact(2, context=context)
  rows = context - 1
  linear = terms.forward(config, rows, 0, rows, delta=False)
  return 3 * linear + 7 * terms.causal_pairs(0, rows) * terms.pair(config)


# Strategies: everything after the prefill that they share. ----------------------------------------


def thinking(
  config: DecoderConfig,
  context: int,
  prompt_tokens: int,
  thinking_tokens: int,
  answer_tokens: int,
) -> int:
  """FLOPs after the prefill of answering with M thinking tokens first; M = 0 is in-context.

  Tokens that a budget inserts to close the thinking section count among either.

  Raises:
    UserError: a count is out of range.
  """
  thinking_tokens, answer_tokens = _exact(
    0, thinking_tokens=thinking_tokens, answer_tokens=answer_tokens
  )
  return decode(config, context, prompt_tokens, thinking_tokens + answer_tokens, delta=False)


def qttt(
  config: DecoderConfig,
  context: int,
  prompt_tokens: int,
  span: int,
  steps: int,
  answer_tokens: int,
  starts: Sequence[int] | None = None,
  span_kv: str = "frozen",
) -> int:
  """FLOPs after the prefill of adapting, then answering with Delta in every query.

  Raises:
    UserError: as `adapt` and `decode`.
  """
  answer = decode(config, context, prompt_tokens, answer_tokens, delta=True)
  return adapt(config, context, span, steps, starts, span_kv) + answer
