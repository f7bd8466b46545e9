"""Llama 3 and what has its architecture (SmolLM2): no query and key norms, no biases.

Without a norm the length of a query is W_Q's to choose: test-time training may sharpen or flatten
the attention of a head, not only turn it to other keys. With Qwen3's norms it can do the latter
alone (tttjax.ttt.weights).
"""

from tttjax.models.dense import dense_layouts
from tttjax.models.family import Family

_RELEASES = "a dense Llama checkpoint (Llama 3, 3.1, 3.2 text, 3.3, SmolLM2)"

LLAMA = Family(
  model_type="llama",
  architecture="LlamaForCausalLM",
  releases=_RELEASES,
  decoder={"qk_norm": False, "qkv_bias": False},
  defaults={"head_dim": None, "rms_norm_eps": 1e-6, "tie_word_embeddings": False},
  only={
    "attention_bias": (False, f"biases are not implemented in this family; use {_RELEASES}"),
    "mlp_bias": (False, f"biases of the MLP are not implemented; use {_RELEASES}"),
    "rope_interleaved": (False, f"only the half-split rotation is implemented; use {_RELEASES}"),
  },
  layouts=dense_layouts(),
)
