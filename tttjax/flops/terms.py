"""What the counters sum: FLOPs per encoded row, per row of logits and per query-key pair.

2 FLOPs per multiply-add, over all layers. Symbols as in tttjax.flops.counts.
"""

from tttjax.errors import UserError
from tttjax.models.decoder_config import DecoderConfig


def query_row(config: DecoderConfig) -> int:
  """FLOPs of one row times W_Q, or times Delta, or times either's transpose: 2 L D H d."""
  attention_width = config.num_attention_heads * config.head_dim
  return 2 * config.num_hidden_layers * config.hidden_size * attention_width


def key_value_row(config: DecoderConfig) -> int:
  """FLOPs of one row times W_K and W_V: 4 L D K d."""
  kv_width = config.num_key_value_heads * config.head_dim
  return 4 * config.num_hidden_layers * config.hidden_size * kv_width


def output_mlp_row(config: DecoderConfig) -> int:
  """FLOPs of one row times W_O and the gated MLP: 2 L (H d D + 3 D F)."""
  attention_width = config.num_attention_heads * config.head_dim
  width = attention_width + 3 * config.intermediate_size
  return 2 * config.num_hidden_layers * config.hidden_size * width


def logits_row(config: DecoderConfig) -> int:
  """FLOPs of one row times the vocabulary matrix (tied or not): 2 D V."""
  return 2 * config.hidden_size * config.vocab_size


def pair(config: DecoderConfig) -> int:
  """FLOPs of one attention product (q.k, or p.v) for one query-key pair: 2 L H d."""
  return 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim


def causal_pairs(start: int, rows: int) -> int:
  """Pairs of `rows` queries at positions start, start + 1, ..., each seeing 0..its own."""
  return rows * start + rows * (rows + 1) // 2


def forward(config: DecoderConfig, rows: int, pairs: int, logit_rows: int, delta: bool) -> int:
  """FLOPs of encoding `rows` tokens, their own K and V included, over `pairs` pairs."""
  per_row = (1 + delta) * query_row(config) + key_value_row(config) + output_mlp_row(config)
  return rows * per_row + 2 * pairs * pair(config) + logit_rows * logits_row(config)


def step_linear(config: DecoderConfig, span: int, span_kv: str) -> int:
  """A query-only step's products with weights, for `span` inputs; `ttt_step` lists them."""
  if span_kv not in ("frozen", "recomputed"):
    raise UserError(f"span_kv={span_kv!r} is unknown; use 'frozen' or 'recomputed'")
  forward_and_dx = 2 * (2 * query_row(config) + output_mlp_row(config) + logits_row(config))
  if span_kv == "recomputed":
    forward_and_dx += 2 * key_value_row(config)
  return span * (forward_and_dx + query_row(config))  # the last is dDelta
