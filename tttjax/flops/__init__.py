"""Exact FLOP counts: what the method needs, what a function executes, and matched budgets."""

from tttjax.flops.counts import (
  adapt,
  beam,
  decode,
  full_ttt_step,
  prefill,
  qttt,
  thinking,
  ttt_step,
)
from tttjax.flops.dense_counts import dense_decode, dense_prefill, dense_ttt_step
from tttjax.flops.executed import executed_flops
from tttjax.flops.matching import (
  largest_within,
  match_steps,
  match_thinking_tokens,
  paper_adaptation_cost,
  paper_prefill_cost,
  paper_rule,
  paper_thinking_cost,
)

__all__ = [
  "adapt",
  "beam",
  "decode",
  "dense_decode",
  "dense_prefill",
  "dense_ttt_step",
  "executed_flops",
  "full_ttt_step",
  "largest_within",
  "match_steps",
  "match_thinking_tokens",
  "paper_adaptation_cost",
  "paper_prefill_cost",
  "paper_rule",
  "paper_thinking_cost",
  "prefill",
  "qttt",
  "thinking",
  "ttt_step",
]
