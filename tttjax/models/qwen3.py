"""Dense Qwen3: per-head query and key norms before RoPE, no biases, head_dim of its own."""

from tttjax.models.family import Family
from tttjax.models.tensor_layout import EMBEDDING, LM_HEAD, Layout

_RELEASES = "a dense Qwen3 checkpoint (0.6B to 32B, base, instruct or 2507)"


def _layer(name: str, path: str, file: str, param: str) -> Layout:
  return Layout(
    f"model.layers.{{layer}}.{name}.weight",
    ("layers", *path.split("/")),
    tuple(file.split()),
    param,
  )


QWEN3 = Family(
  model_type="qwen3",
  architecture="Qwen3ForCausalLM",
  releases=_RELEASES,
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
  layouts=(
    Layout("model.embed_tokens.weight", EMBEDDING, ("V", "D"), "VD"),
    _layer("input_layernorm", "attention_norm/scale", "D", "D"),
    _layer("self_attn.q_proj", "attention/query/kernel", "Hd D", "DHd"),
    _layer("self_attn.k_proj", "attention/key/kernel", "Kd D", "DKd"),
    _layer("self_attn.v_proj", "attention/value/kernel", "Kd D", "DKd"),
    _layer("self_attn.q_norm", "attention/query_norm/scale", "d", "d"),
    _layer("self_attn.k_norm", "attention/key_norm/scale", "d", "d"),
    _layer("self_attn.o_proj", "attention/output/kernel", "D Hd", "HdD"),
    _layer("post_attention_layernorm", "mlp_norm/scale", "D", "D"),
    _layer("mlp.gate_proj", "mlp/gate/kernel", "F D", "DF"),
    _layer("mlp.up_proj", "mlp/up/kernel", "F D", "DF"),
    _layer("mlp.down_proj", "mlp/down/kernel", "D F", "FD"),
    Layout("model.norm.weight", ("final_norm", "scale"), ("D",), "D"),
    Layout("lm_head.weight", LM_HEAD, ("V", "D"), "DV"),
  ),
)
