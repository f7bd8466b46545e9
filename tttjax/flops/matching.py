"""Budgets of equal FLOPs: thinking tokens against query-only steps (paper section 3).

The paper's rule, M ~ 2 N k, keeps the leading terms in T and charges every span the whole context.
Under this project's exact count, for T -> infinity at fixed N and k, the ratio M / (N k) tends to

  5/4  with uniform starts: a span's query-key pair costs 10 L H d (4 forward, 6 backward) against a
       thinking token's 4 L H d, and a span sees T / 2 keys on average where a token sees T;
  5/2  with spans at the end of the context, which see all T keys.

The paper's 2 is the second without the recomputed scores, (4 + 4) / 4. At short T the products with
weights rule instead: a span's row costs 2.07 to 2.21 times a decoded one in the released Qwen3, and
the M thinking tokens' attention to each other counts too. For Qwen3-4B at the paper's default, a
64-token prompt and a 512-token answer, M is 6,907 at T = 512, 5,826 at 32,768 and 5,366 at 131,072,
where the rule says 8,192.
"""

from collections.abc import Callable

from tttjax.errors import UserError
from tttjax.flops.counts import qttt, thinking
from tttjax.models.decoder_config import DecoderConfig


def largest_within(budget: int, cost: Callable[[int], int]) -> int:
  """The largest n >= 0, of tokens or steps, whose `cost` in FLOPs does not exceed `budget`.

  One more would exceed it. `cost` must grow with n. 0 also when nothing fits.
  """
  above = 1
  while cost(above) <= budget:
    above *= 2
  fitting = above // 2
  while above - fitting > 1:
    middle = (fitting + above) // 2
    fitting, above = (middle, above) if cost(middle) <= budget else (fitting, middle)
  return fitting


def match_thinking_tokens(
  config: DecoderConfig,
  context: int,
  prompt_tokens: int,
  span: int,
  steps: int,
  answer_tokens: int,
  samples: int = 1,
  span_kv: str = "frozen",
) -> int:
  """The largest M whose `thinking` FLOPs, for all samples together, do not exceed `qttt`'s.

  Both sides encode the prompt and generate the answer after a shared prefill, qTTT with Delta in
  every query, spans at uniform starts. With n samples (self-consistency, best-of-n) M is per
  sample, and each sample encodes its own prompt and generates its own answer. One more thinking
  token would exceed the budget. The positions it needs, context + prompt_tokens + M +
  answer_tokens, may exceed max_position_embeddings: that is the caller's matter.

  Returns:
    M >= 0, tokens; 0 also when the samples' answers alone exceed the budget.

  Raises:
    UserError: a count is out of range or the span does not fit the context.
  """
  if samples < 1:
    raise UserError(f"samples={samples} must be at least 1")
  budget = qttt(config, context, prompt_tokens, span, steps, answer_tokens, span_kv=span_kv)
  return largest_within(
    budget,
    lambda tokens: samples * thinking(config, context, prompt_tokens, tokens, answer_tokens),
  )


def match_steps(
  config: DecoderConfig,
  context: int,
  prompt_tokens: int,
  span: int,
  thinking_tokens: int,
  answer_tokens: int,
  span_kv: str = "frozen",
) -> int:
  """The largest N whose `qttt` FLOPs do not exceed those of `thinking_tokens` = M.

  Returns:
    N >= 0, steps; 0 also when the answer with Delta alone exceeds the budget.

  Raises:
    UserError: a count is out of range or the span does not fit the context.
  """
  return largest_within(
    thinking(config, context, prompt_tokens, thinking_tokens, answer_tokens),
    lambda steps: qttt(config, context, prompt_tokens, span, steps, answer_tokens, span_kv=span_kv),
  )


# The paper's leading-term model, for comparison. Multiply-adds, not FLOPs. ------------------------


def _paper_coefficients(config: DecoderConfig) -> tuple[int, int, int]:
  """(C_quad, C_tok, C_tok without K,V) = (2 L D, (4 + 2 r) L D^2, (2 + 2 r) L D^2), r = F / D."""
  layers, width, mlp = config.num_hidden_layers, config.hidden_size, config.intermediate_size
  without_kv = layers * (2 * width**2 + 2 * width * mlp)
  return 2 * layers * width, without_kv + 2 * layers * width**2, without_kv


def paper_rule(span: int, steps: int) -> int:
  """The paper's matched thinking budget, 2 N k tokens (8192 at its default N = 32, k = 128)."""
  return 2 * steps * span


def paper_prefill_cost(config: DecoderConfig, context: int) -> int:
  """The paper's C_quad T^2 + C_tok T, in multiply-adds: all T^2 pairs, no GQA, no vocabulary."""
  quadratic, token, _ = _paper_coefficients(config)
  return quadratic * context**2 + token * context


def paper_thinking_cost(config: DecoderConfig, context: int, thinking_tokens: int) -> int:
  """The paper's C_quad (M T + M (M - 1) / 2) + C_tok M, in multiply-adds."""
  quadratic, token, _ = _paper_coefficients(config)
  pairs = thinking_tokens * context + thinking_tokens * (thinking_tokens - 1) // 2
  return quadratic * pairs + token * thinking_tokens


def paper_adaptation_cost(config: DecoderConfig, context: int, span: int, steps: int) -> int:
  """The paper's N steps of 2 (C_quad k T + (2 + 2 r) L D^2 k), in multiply-adds.

  The backward pass counts as much as the forward, and every query as if it saw all T keys.
  """
  quadratic, _, query_only = _paper_coefficients(config)
  return steps * 2 * (quadratic * span * context + query_only * span)
