"""Checkpoints: Hugging Face's layout, GGUF files, fast weights and optimizer state with Orbax."""

from tttjax.checkpoint.checkpoint import QWEN_TRAINED, Checkpoint, open_checkpoint
from tttjax.checkpoint.config_json import read_config, write_config
from tttjax.checkpoint.hf_export import export
from tttjax.checkpoint.loading import from_pretrained
from tttjax.checkpoint.named_models import NAMED_MODELS
from tttjax.checkpoint.orbax import restore_fast, save_fast
from tttjax.checkpoint.tokenizers import load_tokenizer
