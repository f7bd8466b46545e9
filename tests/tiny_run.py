"""A tiny random checkpoint with the embedded tokenizer, and a config that runs on it in seconds."""

import jax
import jax.numpy as jnp

from tttjax.embedded.vocabulary import VOCAB_SIZE, build_tokenizer
from tttjax.experiment import default_config
from tttjax.models.decoder import Decoder, init_params
from tttjax.models.decoder_config import DecoderConfig
from tttjax.pretrain.checkpoint_files import write_checkpoint
from tttjax.ttt.hyperparameters import TTTConfig

ARCHITECTURE = DecoderConfig(
  vocab_size=VOCAB_SIZE,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=2,
  num_key_value_heads=1,
  head_dim=16,
  rope_theta=1e4,
  max_position_embeddings=1024,
  tie_word_embeddings=True,
)

TTT = TTTConfig(span=8)


def write(directory) -> None:
  """Writes the checkpoint, the same one every time."""
  model = Decoder(ARCHITECTURE, dtype=jnp.float32)
  write_checkpoint(directory, model, init_params(model, jax.random.key(0)), build_tokenizer())


def config(checkpoint, **overrides):
  """One length of 128 tokens, two contexts, two questions; `ttt__steps=4` sets ttt.steps."""
  values = default_config()
  values.models = (str(checkpoint),)
  values.lengths = (128,)
  values.contexts, values.questions = (2,), 2
  values.ttt.steps, values.ttt.span = 2, 8
  values.sampling.max_new_tokens = 4
  values.update_from_flattened_dict({k.replace("__", "."): v for k, v in overrides.items()})
  return values
