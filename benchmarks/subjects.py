"""One random model, written once as a checkpoint that both frameworks read, and its context."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.suites import Suite
import tttjax as tt


@dataclasses.dataclass(frozen=True)
class Subject:
  """tttjax's model and params, and the directory with the same weights."""

  model: tt.Decoder
  params: Any
  directory: pathlib.Path


def make(suite: Suite, directory: pathlib.Path) -> Subject:
  """Random weights; `directory` is made."""
  config = tt.DecoderConfig(
    vocab_size=suite.vocab,
    hidden_size=suite.hidden,
    intermediate_size=suite.mlp,
    num_hidden_layers=suite.layers,
    num_attention_heads=suite.heads,
    num_key_value_heads=suite.kv_heads,
    head_dim=suite.head_dim,
    rope_theta=1e6,
    max_position_embeddings=max(suite.lengths) + 8192,
    tie_word_embeddings=True,
  )
  model = tt.Decoder(config, jnp.dtype(suite.dtype))
  params = tt.init_params(model, jax.random.key(0))
  tt.export(directory, model, params, dtype=jnp.dtype(suite.dtype))
  return Subject(model, params, directory)


def context(suite: Suite, length: int, seed: int = 0) -> np.ndarray:
  """Random token ids [1, length]."""
  return np.random.default_rng(seed).integers(0, suite.vocab, (1, length)).astype(np.int32)
