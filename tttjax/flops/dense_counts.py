"""The same phases as a backend executes them: every query row times every key slot it reads.

`slots` is what a row is multiplied with, masked or not: the capacity with dense attention, blocks
read x block size with the portable backend. Each count equals `executed_flops` of the phase
exactly; rows include padding.
"""

from tttjax.flops import terms
from tttjax.models.decoder_config import DecoderConfig


def dense_prefill(config: DecoderConfig, batch: int, tokens: int, slots: int) -> int:
  """FLOPs of encoding [batch, tokens] against `slots` key slots, one row of logits each."""
  rows = batch * tokens
  return terms.forward(config, rows, rows * slots, batch, delta=False)


def dense_decode(
  config: DecoderConfig, rows: int, prompt_tokens: int, new_tokens: int, delta: bool, slots: int
) -> int:
  """FLOPs of `decode` for `rows` sequences; `slots` are those of prefix and suffix together."""
  encoded = rows * (prompt_tokens + max(new_tokens - 1, 0))
  return terms.forward(config, encoded, encoded * slots, rows * new_tokens, delta)


def dense_ttt_step(
  config: DecoderConfig,
  span: int,
  slots: int,
  span_kv: str = "frozen",
  recompute_scores: bool = True,
) -> int:
  """FLOPs of `ttt_step` for one context, at any start.

  Args:
    config: architecture.
    span: k.
    slots: key slots of the frozen cache that each row is multiplied with.
    span_kv: with "recomputed" each row also meets the span's own k keys, by plain autodiff:
      scores and values forward, dp, dq, dk, dv backward.
    recompute_scores: whether the backward pass over the cache computes the scores again, as the
      portable backend's does; False is plain autodiff.

  Raises:
    UserError: span_kv is unknown.
  """
  products = (4 + recompute_scores) * slots
  if span_kv == "recomputed":
    products += 6 * span
  return terms.step_linear(config, span, span_kv) + span * products * terms.pair(config)
