"""The families of checkpoints that are implemented: a new one is a file and its line here."""

from tttjax.models.family import Family
from tttjax.models.llama import LLAMA
from tttjax.models.qwen2 import QWEN2
from tttjax.models.qwen3 import QWEN3

FAMILIES: dict[str, Family] = {family.model_type: family for family in (QWEN3, QWEN2, LLAMA)}

_HYBRID = "Qwen3.5 is a hybrid with gated DeltaNet layers and a gated query projection"
# Near relatives that users try first, and what stands in the way.
NOT_IMPLEMENTED = {
  "gemma": "it scales its embeddings, adds 1 to its norms' scales and uses GELU",
  "gemma2": "it caps its logits and alternates sliding and full attention",
  "gemma3": "it is a vision-language model that alternates sliding and full attention",
  "gemma3_text": "it alternates sliding and full attention",
  "llama4": "it is a mixture of experts that alternates rotary and other attention",
  "mistral": "its releases differ in sliding-window attention, which is not implemented",
  "mixtral": "its MLP is a mixture of experts and only dense models are implemented",
  "phi3": "it stores its projections fused",
  "qwen2_moe": "its MLP is a mixture of experts and only dense models are implemented",
  "qwen2_vl": "it is a vision-language model",
  "qwen2_5_vl": "it is a vision-language model",
  "qwen3_moe": "its MLP is a mixture of experts and only dense models are implemented",
  "qwen3_next": "it is a hybrid with gated DeltaNet layers, which have no key-value cache",
  "qwen3_5": _HYBRID,
  "qwen3_5_text": _HYBRID,
  "qwen3_5_moe": _HYBRID,
  "qwen3_5_moe_text": _HYBRID,
  "qwen3_vl": "it is a vision-language model",
  "smollm3": "it leaves out the rotary embedding in every fourth layer",
}
