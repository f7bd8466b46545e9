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


def check_number(
  name: str,
  value,
  low: float,
  high: float = np.inf,
  *,
  whole: bool = False,
  above: bool = False,
  below: bool = False,
  infinite: bool = False,
) -> None:
  """Raises UserError unless a concrete `value` is a number from `low` to `high`.

  Args:
    name: what to call it in the message.
    value: traced values are not checked.
    whole: it must be an integer.
    above, below: the bound itself is excluded, and what float32 rounds to it.
    infinite: it may be infinite.
  """
  if not is_concrete(value):
    return
  kind = "a whole number" if whole else "a number"
  kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
  scalar = value
  if isinstance(value, (jax.Array, np.ndarray)) and np.size(value) == 1:
    scalar = np.asarray(value).item()
  if not isinstance(scalar, kinds) or isinstance(scalar, bool):
    given = f"an array of shape {np.shape(value)}" if np.ndim(value) else repr(value)
    raise UserError(f"{name} must be {kind}, not {given}")
  at_least = f"above {low}" if above else f"at least {low}"
  at_most = f"below {high}" if below else f"at most {high}"
  if not (scalar > low if above else scalar >= low):
    raise UserError(f"{name} must be {at_least}, not {value}")
  if not (scalar < high if below else scalar <= high):
    raise UserError(f"{name} must be {at_most}, not {value}")
  if not (infinite or whole) and abs(scalar) > float(np.finfo(np.float32).max):
    raise UserError(f"{name} must be finite in float32, not {value}")
  if not whole:
    rounded = float(np.float32(scalar))
    if above and rounded <= low or below and rounded >= high:
      raise UserError(
        f"{name} must be {at_least if rounded <= low else at_most} in float32, not {value}"
      )


def as_array(name: str, values) -> jax.Array | np.ndarray:
  """Lists (of lists) of numbers as a numpy array; arrays, traced ones too, as they are.

  Raises:
    UserError: lists of unequal lengths, or of things that are no numbers.
  """
  if isinstance(values, (jax.Array, np.ndarray)):
    return values
  try:
    array = np.asarray(values)
  except ValueError:
    raise UserError(
      f"{name} has rows of unequal lengths: pad them to one width and give their lengths"
    ) from None
  if array.dtype.kind not in "biuf":
    raise UserError(f"{name} must hold numbers, not {type(values).__name__} of {array.dtype}")
  return array


def check_tokens(name: str, tokens, vocab_size: int, lengths=None):
  """The tokens and lengths as arrays, checked where they have a value.

  Args:
    name: what to call the array in the message.
    tokens: int [B, T], or lists of ids.
    vocab_size: ids must be in [0, vocab_size).
    lengths: int [B] or None; each in [1, T]. Tokens beyond them are padding and not checked.

  Returns:
    tokens [B, T] and lengths [B] (T of each row where none were given), each an array.

  Raises:
    UserError: no integer [B, T] with T >= 1, ids outside the vocabulary, lengths that do not fit.
  """
  tokens = as_array(name, tokens)
  if np.ndim(tokens) != 2:
    raise UserError(f"{name} must have shape [batch, tokens], not {np.shape(tokens)}")
  rows, width = np.shape(tokens)
  if rows == 0 or width == 0:
    raise UserError(f"{name} is empty (shape {(rows, width)}): give at least one token")
  if not np.issubdtype(tokens.dtype, np.integer):
    raise UserError(f"{name} must be integer token ids, not {tokens.dtype}")
  if lengths is None:
    lengths = np.full((rows,), width, np.int32)
  lengths = as_array(f"the lengths of {name}", lengths)
  if np.shape(lengths) != (rows,):
    raise UserError(f"the lengths of {name} must have shape ({rows},), not {np.shape(lengths)}")
  if not np.issubdtype(lengths.dtype, np.integer):
    raise UserError(f"the lengths of {name} must be integers, not {lengths.dtype}")
  if is_concrete(lengths):
    used = np.asarray(lengths)
    if used.min() < 1 or used.max() > width:
      raise UserError(
        f"the lengths of {name} must be between 1 and its width {width}, not {used.tolist()}"
      )
  if is_concrete(tokens, lengths):
    ids = np.asarray(tokens)[np.arange(width) < np.asarray(lengths)[:, None]]
    if ids.min() < 0 or ids.max() >= vocab_size:
      bad = ids.max() if ids.max() >= vocab_size else ids.min()
      raise UserError(
        f"{name} holds token id {bad}, outside the model's vocabulary of {vocab_size}: was it made"
        " with another model's tokenizer?"
      )
  return tokens, lengths


def pad_to(x, width: int) -> jax.Array:
  """x [B, T] padded with zeros on the right to [B, width], without compiling anything."""
  x = np.asarray(x) if is_concrete(x) else x
  pad = ((0, 0), (0, width - x.shape[1]))
  return (np if is_concrete(x) else jnp).pad(x, pad).astype(np.int32)


def crop(x: jax.Array, width: int):
  """x [..., padded] cut to [..., width], on the host where it can be, so nothing is compiled."""
  return (np.asarray(x) if is_concrete(x) else x)[..., :width]
