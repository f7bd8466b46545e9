"""Shapes and constants of a decoder, as a frozen hashable value."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class YarnConfig:
  """YaRN context extension (Peng et al., arXiv 2309.00071), as in transformers' `rope_type: yarn`.

  Attributes:
    factor: context extension factor.
    original_max_position_embeddings: trained context length in tokens.
    beta_fast, beta_slow: rotation counts that bound the interpolation ramp.
    attention_factor: multiplies cos and sin; None means 0.1 ln(factor) + 1.
    truncate: round the ramp's bounds to whole dimensions.
  """

  factor: float
  original_max_position_embeddings: int
  beta_fast: float = 32.0
  beta_slow: float = 1.0
  attention_factor: float | None = None
  truncate: bool = True


@dataclasses.dataclass(frozen=True)
class Llama3Config:
  """Context extension of Llama 3.1 and later, as in transformers' `rope_type: llama3`.

  Attributes:
    factor: what the slow frequencies are divided by.
    low_freq_factor, high_freq_factor: rotations over the original context at and below which a
      frequency is slow, at and above which it is left as it is; between them it is mixed.
    original_max_position_embeddings: context length in tokens before the extension.
  """

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_max_position_embeddings: int


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Architecture of one model.

  Attributes are named as in Hugging Face's config.json, except `rope_theta`
  and `rope_scaling`, which gather what transformers 4 and 5 keep in different places,
  and the two that config.json leaves to `model_type`:

  Attributes:
    qk_norm: queries and keys are normalised per head before RoPE.
    qkv_bias: the query, key and value projections add a bias.
    model_type: names the family (tttjax.models.families), which says how files spell all this.
  """

  vocab_size: int
  hidden_size: int
  intermediate_size: int
  num_hidden_layers: int
  num_attention_heads: int
  num_key_value_heads: int
  head_dim: int
  rope_theta: float
  max_position_embeddings: int
  rms_norm_eps: float = 1e-6
  tie_word_embeddings: bool = False
  rope_scaling: YarnConfig | Llama3Config | None = None
  qk_norm: bool = True
  qkv_bias: bool = False
  model_type: str = "qwen3"

  def slots(self, batch: int, capacity: int) -> tuple[int, int, int, int, int]:
    """Shape [L, B, K, capacity, head_dim] of the keys, and of the values, of a cache."""
    heads = self.num_key_value_heads
    return self.num_hidden_layers, batch, heads, capacity, self.head_dim

  @property
  def max_positions(self) -> int:
    """Positions that the model may use.

    YaRN extends the trained range to factor x original; the recipe that Qwen publishes leaves
    max_position_embeddings as it was. Llama 3's is the extended range already.
    """
    yarn = self.rope_scaling
    if not isinstance(yarn, YarnConfig):
      return self.max_position_embeddings
    extended = int(yarn.factor * yarn.original_max_position_embeddings)
    return max(self.max_position_embeddings, extended)
