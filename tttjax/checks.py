"""Concrete and traced arguments: checks before anything is compiled, padding, cropping."""

import jax
import jax.numpy as jnp
import numpy as np

from tttjax.errors import UserError


def is_concrete(*values) -> bool:
  """True where every leaf has a value here and now, so that it can be checked.

  Traced values have none; arrays split over several processes have only a part of it.
  """
  return all(
    not isinstance(x, jax.Array)
    or not isinstance(x, jax.core.Tracer)
    and (x.is_fully_addressable or x.is_fully_replicated)
    for x in jax.tree.leaves(values)
  )


def check_tokens(name: str, tokens, vocab_size: int, lengths=None) -> None:
  """Raises UserError unless `tokens` is an integer [B, T] with T >= 1 and ids in the vocabulary.

  Args:
    name: what to call the array in the message.
    tokens: [B, T].
    vocab_size: ids must be in [0, vocab_size).
    lengths: int [B] or None; each in [1, T]. Tokens beyond them are padding and not checked.
  """
  if np.ndim(tokens) != 2:
    raise UserError(f"{name} must have shape [batch, tokens], not {np.shape(tokens)}")
  if not np.issubdtype(tokens.dtype, np.integer):
    raise UserError(f"{name} must be integer token ids, not {tokens.dtype}")
  rows, width = np.shape(tokens)
  if rows == 0 or width == 0:
    raise UserError(f"{name} is empty (shape {(rows, width)}): give at least one token")
  if not is_concrete(tokens, lengths):
    return
  used = np.full(rows, width) if lengths is None else np.asarray(lengths)
  if used.shape != (rows,):
    raise UserError(f"the lengths of {name} must have shape ({rows},), not {used.shape}")
  if used.min() < 1 or used.max() > width:
    raise UserError(
      f"the lengths of {name} must be between 1 and its width {width}, not {used.tolist()}"
    )
  ids = np.asarray(tokens)[np.arange(width) < used[:, None]]
  if ids.min() < 0 or ids.max() >= vocab_size:
    bad = ids.max() if ids.max() >= vocab_size else ids.min()
    raise UserError(
      f"{name} holds token id {bad}, outside the model's vocabulary of {vocab_size}: was it made"
      " with another model's tokenizer?"
    )


def pad_to(x, width: int) -> jax.Array:
  """x [B, T] padded with zeros on the right to [B, width], without compiling anything."""
  x = np.asarray(x) if is_concrete(x) else x
  pad = ((0, 0), (0, width - x.shape[1]))
  return (np if is_concrete(x) else jnp).pad(x, pad).astype(np.int32)


def crop(x: jax.Array, width: int):
  """x [..., padded] cut to [..., width], on the host where it can be, so nothing is compiled."""
  return (np.asarray(x) if is_concrete(x) else x)[..., :width]
