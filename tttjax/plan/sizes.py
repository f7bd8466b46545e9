"""Architectures of released models, as their config.json has them."""

from tttjax.errors import UserError
from tttjax.models.decoder_config import DecoderConfig, Llama3Config

_QWEN3 = {"vocab_size": 151936, "max_position_embeddings": 40960, "rope_theta": 1e6}
_QWEN25 = {
  "vocab_size": 152064,
  "max_position_embeddings": 131072,
  "rope_theta": 1e6,
  "qk_norm": False,
  "qkv_bias": True,
  "model_type": "qwen2",
}
_LLAMA = {
  "vocab_size": 128256,
  "max_position_embeddings": 131072,
  "rope_theta": 5e5,
  "rope_scaling": Llama3Config(8.0, 1.0, 4.0, 8192),
  "qk_norm": False,
  "model_type": "llama",
}
# Family, layers, hidden, query heads, KV heads, MLP, tied; heads of 128.
_SIZES = {
  "Qwen3-0.6B": (_QWEN3, 28, 1024, 16, 8, 3072, True),
  "Qwen3-1.7B": (_QWEN3, 28, 2048, 16, 8, 6144, True),
  "Qwen3-4B": (_QWEN3, 36, 2560, 32, 8, 9728, True),
  "Qwen3-8B": (_QWEN3, 36, 4096, 32, 8, 12288, False),
  "Qwen3-14B": (_QWEN3, 40, 5120, 40, 8, 17408, False),
  "Qwen3-32B": (_QWEN3, 64, 5120, 64, 8, 25600, False),
  "Qwen2.5-7B": (_QWEN25, 28, 3584, 28, 4, 18944, False),
  "Llama-3.1-8B": (_LLAMA, 32, 4096, 32, 8, 14336, False),
}
NAMES = tuple(_SIZES)


def released(name: str) -> str | None:
  """The released model that `name` means, in any case and also without "Qwen3-"; None without."""
  known = {one.lower(): one for one in NAMES}
  return known.get(name.lower()) or known.get(f"qwen3-{name.lower()}")


def architecture(name: str) -> DecoderConfig:
  """The architecture of a released model.

  Raises:
    UserError: there is none of that name.
  """
  found = released(name)
  if found is None:
    raise UserError(f"{name!r} is no released model known here: choose one of {', '.join(NAMES)}")
  family, layers, hidden, heads, kv_heads, mlp, tied = _SIZES[found]
  return DecoderConfig(
    hidden_size=hidden,
    intermediate_size=mlp,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    num_key_value_heads=kv_heads,
    head_dim=128,
    tie_word_embeddings=tied,
    **family,
  )
