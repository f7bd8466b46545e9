"""Dense Qwen3: per-head query and key norms before RoPE, no biases, head_dim of its own."""

from tttjax.models.dense import dense_layouts, layer_layout
from tttjax.models.family import Family

_RELEASES = "a dense Qwen3 checkpoint (0.6B to 32B, base, instruct or 2507)"

QWEN3 = Family(
  model_type="qwen3",
  architecture="Qwen3ForCausalLM",
  releases=_RELEASES,
  decoder={"qk_norm": True, "qkv_bias": False},
  defaults={
    "head_dim": 128,  # Not hidden_size / num_attention_heads.
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
  },
  only={
    "attention_bias": (False, f"biases are not implemented; use {_RELEASES}"),
    "use_sliding_window": (
      False,
      "only full attention is implemented; set it to false if the model was trained with full"
      " attention",
    ),
  },
  layouts=dense_layouts(
    layer_layout("self_attn.q_norm.weight", "attention/query_norm/scale", "d", "d"),
    layer_layout("self_attn.k_norm.weight", "attention/key_norm/scale", "d", "d"),
  ),
)
