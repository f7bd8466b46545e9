"""Checkpoints: Hugging Face's layout in and out, fast weights and optimizer state with Orbax."""

from tttjax.checkpoint.checkpoint import Checkpoint, open_checkpoint
from tttjax.checkpoint.config_json import read_config, write_config
from tttjax.checkpoint.hf_export import export
from tttjax.checkpoint.loading import from_pretrained
from tttjax.checkpoint.orbax import restore_fast, save_fast
from tttjax.checkpoint.tokenizers import load_tokenizer
