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
class DecoderConfig:
  """Architecture of one model.

  Attributes are named as in Hugging Face's config.json, except `rope_theta`
  and `yarn`, which gather what transformers 4 and 5 keep in different places.
  `model_type` names the family (tttjax.models.families), which says how files spell all this.
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
  yarn: YarnConfig | None = None
  model_type: str = "qwen3"

  def slots(self, batch: int, capacity: int) -> tuple[int, int, int, int, int]:
    """Shape [L, B, K, capacity, head_dim] of the keys, and of the values, of a cache."""
    heads = self.num_key_value_heads
    return self.num_hidden_layers, batch, heads, capacity, self.head_dim

  @property
  def max_positions(self) -> int:
    """Positions that the model may use.

    YaRN extends the trained range to factor x original; the recipe that Qwen publishes leaves
    max_position_embeddings as it was.
    """
    if self.yarn is None:
      return self.max_position_embeddings
    extended = int(self.yarn.factor * self.yarn.original_max_position_embeddings)
    return max(self.max_position_embeddings, extended)
