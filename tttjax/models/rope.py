"""Rotary position embedding, plain, YaRN and Llama 3, with transformers' frequencies."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tttjax.models.decoder_config import DecoderConfig, Llama3Config, YarnConfig


def inverse_frequencies(config: DecoderConfig) -> tuple[np.ndarray, float]:
  """Angular frequencies float32 [head_dim/2] (radians per token) and the factor on cos and sin."""
  exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
  # The power in float64, rounded once: a float32 power is one ulp off at some exponents, at which
  # ones depends on the processor, and an ulp is up to 2e-3 radians after 40,000 tokens.
  wavelengths = (np.float64(config.rope_theta) ** exponents.astype(np.float64)).astype(np.float32)
  match config.rope_scaling:
    case YarnConfig() as yarn:
      return _yarn(config, yarn, wavelengths)
    case Llama3Config() as llama3:
      return _llama3(llama3, 1 / wavelengths), 1.0
  return 1 / wavelengths, 1.0


def _yarn(
  config: DecoderConfig, yarn: YarnConfig, wavelengths: np.ndarray
) -> tuple[np.ndarray, float]:
  """YaRN (arXiv 2309.00071, section 3.2): slow dimensions interpolate, fast ones stay."""
  dim, base = config.head_dim, config.rope_theta

  def dimension_with(rotations: float) -> float:
    # The dimension that turns `rotations` times over the original context.
    trained = yarn.original_max_position_embeddings
    return dim * math.log(trained / (rotations * 2 * math.pi)) / (2 * math.log(base))

  low, high = dimension_with(yarn.beta_fast), dimension_with(yarn.beta_slow)
  if yarn.truncate:
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, dim - 1)
  if low == high:
    high += 0.001  # no division by zero, as in transformers
  # transformers' operations in its order, so that every bit agrees.
  ramp = np.clip((np.arange(dim // 2, dtype=np.float32) - low) / (high - low), 0, 1)
  kept = 1 - ramp
  stretched = 1 / (np.float32(yarn.factor) * wavelengths)
  frequencies = stretched * (1 - kept) + 1 / wavelengths * kept
  factor = yarn.attention_factor
  if factor is None:
    factor = 0.1 * math.log(yarn.factor) + 1.0 if yarn.factor > 1 else 1.0
  return frequencies.astype(np.float32), factor


def _llama3(llama3: Llama3Config, frequencies: np.ndarray) -> np.ndarray:
  """Llama 3.1's extension: fast frequencies stay, slow ones are divided, the rest is mixed."""
  # transformers' operations in its order, so that every bit agrees: torch divides a number by an
  # array as reciprocal times number.
  wavelengths = np.reciprocal(frequencies) * np.float32(2 * math.pi)
  trained = np.float32(llama3.original_max_position_embeddings)
  low, high = np.float32(llama3.low_freq_factor), np.float32(llama3.high_freq_factor)
  factor = np.float32(llama3.factor)
  slow = frequencies / factor
  kept = (np.reciprocal(wavelengths) * trained - low) / (high - low)
  mixed = (1 - kept) * frequencies / factor + kept * frequencies
  stretched = np.where(wavelengths > trained / low, slow, frequencies)
  between = (wavelengths >= trained / high) & (wavelengths <= trained / low)
  return np.where(between, mixed, stretched)


def rotations(config: DecoderConfig, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
  """cos and sin, float32 [B, T, 1, head_dim/2], of int32 positions [B, T]."""
  frequencies, factor = inverse_frequencies(config)
  angles = positions[:, :, None, None].astype(jnp.float32) * frequencies
  return jnp.cos(angles) * factor, jnp.sin(angles) * factor


def no_rotations(positions: jax.Array) -> tuple[jax.Array, jax.Array]:
  """cos 1 and sin 0, float32 [B, T, 1, 1], with which `rotate` leaves its argument as it is."""
  ones = jnp.ones((*positions.shape, 1, 1), jnp.float32)
  return ones, jnp.zeros_like(ones)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Rotates x [B, T, heads, head_dim] by the half-split convention; float32 inside, dtype kept."""
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return turned.astype(x.dtype)
