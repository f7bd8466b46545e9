"""Qwen2 and Qwen2.5: biases on queries, keys and values, no query and key norms.

As with Llama, W_Q decides the length of a query too (tttjax.models.llama).
"""

from tttjax.models.dense import dense_layouts, layer_layout
from tttjax.models.family import Family

_RELEASES = "a dense Qwen2.5 checkpoint (0.5B to 72B, base or instruct)"

QWEN2 = Family(
  model_type="qwen2",
  architecture="Qwen2ForCausalLM",
  releases=_RELEASES,
  decoder={"qk_norm": False, "qkv_bias": True},
  defaults={"head_dim": None, "rms_norm_eps": 1e-6, "tie_word_embeddings": False},
  only={
    "use_sliding_window": (
      False,
      "only full attention is implemented; set it to false if the model was trained with full"
      " attention",
    ),
  },
  layouts=dense_layouts(
    layer_layout("self_attn.q_proj.bias", "attention/query/bias", "Hd", "Hd"),
    layer_layout("self_attn.k_proj.bias", "attention/key/bias", "Kd", "Kd"),
    layer_layout("self_attn.v_proj.bias", "attention/value/bias", "Kd", "Kd"),
  ),
)
