"""All public functions once, on a small model: what the mesh and multi-process tests compare."""

import jax
import numpy as np

import tttjax as tt

CONFIG = tt.DecoderConfig(
  vocab_size=96,
  hidden_size=32,
  intermediate_size=64,
  num_hidden_layers=2,
  num_attention_heads=8,
  num_key_value_heads=4,
  head_dim=8,
  rope_theta=1e4,
  max_position_embeddings=4096,
)
# Slots of a context: 8 shards of 128. The contexts fill three of them.
CAPACITY = 1024
LENGTHS = np.array([300, 260], np.int32)
# eps well above the gradient's rounding: Adam is ill-conditioned where a gradient is about eps.
TTT = tt.TTTConfig(steps=3, span=24, learning_rate=1e-2, eps=1e-4)
ROWS = np.array([7, 4, 6, 7], np.int32)


def numbers():
  """contexts [2, 300], suffixes [4, 7] and evidence [4, 300], the same in every process."""
  rng = np.random.default_rng(0)
  contexts = rng.integers(0, CONFIG.vocab_size, (2, 300), dtype=np.int32)
  suffixes = rng.integers(0, CONFIG.vocab_size, (4, 7), dtype=np.int32)
  return contexts, suffixes, rng.random((4, 300)) < 0.1


def place(model: tt.Decoder, params):
  """Host parameters on the model's mesh, by the shardings that `abstract_params` declares."""
  return jax.tree.map(
    lambda x, like: jax.device_put(x, like.sharding), params, tt.abstract_params(model)
  )


def host_params(config=CONFIG):
  """Random parameters as numpy arrays, large enough that attention is far from uniform."""
  params = tt.init_params(tt.Decoder(config), jax.random.key(0))
  params = jax.tree.map(np.asarray, params)
  attention = params["layers"]["attention"]
  for name in ("query", "key", "value", "output"):
    attention[name]["kernel"] = attention[name]["kernel"] * 8
  return params


def run(model: tt.Decoder, params, everything: bool = True):
  """name -> array: prefill of two contexts, adapt on the first, generate; or every function."""
  contexts, suffixes, evidence = numbers()
  key = jax.random.key(1)
  pair, logits = tt.prefill(model, params, contexts, LENGTHS, CAPACITY)
  cache, _ = tt.prefill(model, params, contexts[:1], capacity=CAPACITY)
  fast, opt_state, history = tt.adapt(model, params, cache, contexts[:1], key, TTT)
  sampling = tt.SamplingConfig(max_new_tokens=6)
  result = tt.generate(model, params, fast, pair, suffixes, key, sampling, ROWS)
  results = {
    "cache": pair,
    "logits": logits,
    "fast": fast,
    "opt_state": opt_state,
    "loss": history.loss,
    "grad_norm": history.grad_norm,
    "tokens": result.tokens,
    "logprobs": result.logprobs,
  }
  if not everything:
    return results
  again, _, metrics = tt.ttt_step(
    model, params, fast, opt_state, cache, contexts[:1], np.int32(130), TTT
  )
  return results | {
    "step": again,
    "step_loss": metrics.loss,
    "score": tt.score(model, params, fast, pair, suffixes, ROWS),
    "mass": tt.mechanism.attention_mass(model, params, fast, pair, suffixes, ROWS, evidence),
  }


def relative_error(a, b) -> float:
  """Largest absolute difference over the largest absolute value of `b`."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
