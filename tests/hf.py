"""Random small checkpoints written by transformers, and its float32 logits as reference."""

import json
import pathlib
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
import torch
from transformers import AutoConfig, AutoModelForCausalLM

# Every size differs from every other, so that swapped axes cannot pass unnoticed;
# hidden_size != heads x head_dim as in the 0.6B, 4B and 32B models.
SIZES = dict(
  vocab_size=61,
  hidden_size=20,
  intermediate_size=36,
  num_hidden_layers=3,
  num_attention_heads=6,
  num_key_value_heads=2,
  head_dim=8,
  max_position_embeddings=512,
)


def make_checkpoint(
  directory,
  dtype: str = "float32",
  tied: bool = False,
  rope: dict[str, Any] | None = None,
  seed: int = 0,
  shard_size: str | None = None,
  model_type: str = "qwen3",
  **sizes,
) -> pathlib.Path:
  """Saves a random model with transformers and returns its directory.

  Args:
    directory: made if absent.
    dtype: 'float32', 'bfloat16' or 'float16', of the file.
    tied: tie_word_embeddings.
    rope: rope_parameters; rope_theta 1e4 without scaling if None.
    seed: of the weights. Norm scales are random too: ones would hide a mix-up.
    shard_size: e.g. '20KB' writes several files and an index.
    model_type: the family.
    **sizes: replace entries of SIZES.
  """
  config = AutoConfig.for_model(
    model_type,
    **(SIZES | sizes),
    tie_word_embeddings=tied,
    rope_parameters=rope or {"rope_type": "default", "rope_theta": 1e4},
  )
  model = AutoModelForCausalLM.from_config(config)
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      mean, scale = (1.0, 0.3) if "norm" in name else (0.0, 0.2)
      parameter.copy_(mean + scale * torch.randn(parameter.shape, generator=generator))
  directory = pathlib.Path(directory)
  model.to(getattr(torch, dtype)).save_pretrained(directory, max_shard_size=shard_size or "50GB")
  return directory


def edit_config(directory, remove=(), **changes) -> None:
  """Changes fields of a checkpoint's config.json in place; `remove` names fields to drop."""
  path = pathlib.Path(directory) / "config.json"
  values = json.loads(path.read_text()) | changes
  path.write_text(json.dumps({k: v for k, v in values.items() if k not in remove}))


def rewrite(directory, drop=(), **changes) -> None:
  """Replaces tensors of a single-file checkpoint, and leaves out those in `drop`."""
  path = pathlib.Path(directory) / "model.safetensors"
  tensors = load_file(path) | changes
  save_file({name: x for name, x in tensors.items() if name not in drop}, path)


def reference_logits(directory, tokens: np.ndarray) -> np.ndarray:
  """float32 logits [B, T, V] that transformers computes for int tokens [B, T]."""
  model = AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32, attn_implementation="eager", local_files_only=True
  )
  with torch.no_grad():
    return model.eval()(torch.from_numpy(np.asarray(tokens, np.int64))).logits.numpy()
