"""The families of checkpoints that are implemented: a new one is a file and its line here."""

from tttjax.models.family import Family
from tttjax.models.qwen3 import QWEN3

FAMILIES: dict[str, Family] = {family.model_type: family for family in (QWEN3,)}

_HYBRID = "Qwen3.5 is a hybrid with gated DeltaNet layers and a gated query projection"
# Near relatives that users try first, and what stands in the way.
NOT_IMPLEMENTED = {
  "gemma": "it scales its embeddings, adds 1 to its norms' scales and uses GELU",
  "gemma2": "it caps its logits and alternates sliding and full attention",
  "gemma3": "it is a vision-language model that alternates sliding and full attention",
  "gemma3_text": "it alternates sliding and full attention",
  "llama": "it has no per-head query and key norms",
  "mistral": "it has no per-head query and key norms",
  "qwen2": "it has attention biases and no per-head query and key norms",
  "qwen3_moe": "its MLP is a mixture of experts and only dense Qwen3 is implemented",
  "qwen3_next": "it is a hybrid with gated DeltaNet layers, which have no key-value cache",
  "qwen3_5": _HYBRID,
  "qwen3_5_text": _HYBRID,
  "qwen3_5_moe": _HYBRID,
  "qwen3_5_moe_text": _HYBRID,
  "qwen3_vl": "it is a vision-language model",
}
