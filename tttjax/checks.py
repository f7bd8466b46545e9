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


def _of_numbers(array) -> bool:
  """Whether an array's dtype is one of numbers, bfloat16 and the like included."""
  # To numpy a span of time is an integer.
  return jnp.issubdtype(array.dtype, np.number) and array.dtype.kind != "m"


def shown(value) -> str:
  """A value as a message quotes it: one short line, without reading any array's contents."""
  if isinstance(value, jax.core.Tracer):
    return "a traced value"
  if isinstance(value, (jax.Array, np.ndarray)):
    number = np.ndim(value) == 0 and _of_numbers(value)
    if not number or not is_concrete(value):
      return f"an array of shape {np.shape(value)} and dtype {value.dtype}"
    value = np.asarray(value)[()]
  plain = (int, float, complex, str, bytes, np.generic, type(None))
  few = isinstance(value, (list, tuple)) and len(value) <= 16
  if not isinstance(value, plain) and not (few and all(isinstance(x, plain) for x in value)):
    empty = isinstance(value, (dict, list, tuple)) and not value
    return repr(value) if empty else f"a value of type {type(value).__name__}"
  try:
    text = repr(value.item() if isinstance(value, np.generic) else value)
  except ValueError:  # an int of more digits than Python writes out
    return "a number of thousands of digits"
  return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"


def check_kind(name: str, value, kinds, remedy: str) -> None:
  """Raises UserError unless `value` is of one of the `kinds`, as of isinstance."""
  if not isinstance(value, kinds):
    raise UserError(f"{name} is {shown(value)}; {remedy}")


def check_static(name: str, value) -> None:
  """Raises UserError where `value`, which a compiled program depends on, is traced."""
  if not is_concrete(value):
    raise UserError(
      f"{name} is traced, but a compiled program depends on it: give a number that is known when"
      " the function is traced (static_argnums of jax.jit)"
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
  static: bool = False,
):
  """Raises UserError unless a concrete `value` is a number from `low` to `high`.

  Args:
    name: what to call it in the message.
    value: a number, or an array of no axes. Traced values are not checked.
    whole: it must be an integer.
    above, below: the bound itself is excluded, and what float32 rounds to it.
    infinite: it may be infinite, or a float that float32 rounds to infinity.
    static: it must not be traced.

  Returns:
    The value as Python's int or float, so that it can be hashed; a traced one as it is.
  """
  if static:
    check_static(name, value)
  if not is_concrete(value):
    return value
  kind = "a whole number" if whole else "a number"
  kinds = int if whole else (int, float)
  scalar = value
  if isinstance(value, (jax.Array, np.ndarray, np.generic)) and np.ndim(value) == 0:
    # Of numbers alone: item() of a date is an int too.
    scalar = np.asarray(value).item() if _of_numbers(value) else value
  if not isinstance(scalar, kinds) or isinstance(scalar, bool):
    raise UserError(f"{name} must be {kind}, not {shown(value)}")
  at_least = f"above {low}" if above else f"at least {low}"
  at_most = f"below {high}" if below else f"at most {high}"
  if not (scalar > low if above else scalar >= low):
    raise UserError(f"{name} must be {at_least}, not {shown(value)}")
  if not (scalar < high if below else scalar <= high):
    raise UserError(f"{name} must be {at_most}, not {shown(value)}")
  if whole:
    return scalar
  too_large = abs(scalar) > float(np.finfo(np.float32).max)
  if too_large and not (infinite and isinstance(scalar, float)):
    raise UserError(f"{name} must be finite in float32, not {shown(value)}")
  rounded = np.inf if too_large else float(np.float32(scalar))
  if above and rounded <= low or below and rounded >= high:
    raise UserError(
      f"{name} must be {at_least if rounded <= low else at_most} in float32, not {shown(value)}"
    )
  return scalar


def check_flag(name: str, value) -> bool:
  """True or False as Python's bool; a static argument.

  Raises:
    UserError: anything else, 0, 1 and "no" included, or a traced value.
  """
  check_static(name, value)
  array = isinstance(value, (jax.Array, np.ndarray, np.generic))
  if not isinstance(value, bool) and not (array and np.ndim(value) == 0 and value.dtype == bool):
    raise UserError(f"{name} must be True or False, not {shown(value)}")
  return bool(value)


def check_ids(name: str, values, most: int, largest: int) -> tuple[int, ...]:
  """A list, tuple or array of token ids as a tuple of Python's ints; a static argument.

  Raises:
    UserError: no flat list of at most `most` whole numbers from 0 to `largest`, or traced ones.
  """
  check_static(name, values)
  try:
    axes = np.ndim(values)
  except ValueError:  # lists of unequal lengths
    axes = None
  if axes != 1:
    raise UserError(f"{name} must be a list of token ids, not {shown(values)}")
  if len(values) > most:
    raise UserError(f"{name} holds more than {most} ids")
  values = np.asarray(values) if isinstance(values, jax.Array) else values
  return tuple(check_number(name, value, 0, largest, whole=True) for value in values)


def check_numbers(name: str, values, low: int, high: int) -> tuple[int, ...]:
  """Whole numbers from `low` to `high`, one at least, as a tuple of Python's ints.

  Raises:
    UserError: none, or one that is not.
  """
  if not len(values):
    raise UserError(f"{name} holds no number")
  return tuple(check_number(name, value, low, high, whole=True, static=True) for value in values)


def check_key(name: str, key) -> None:
  """Raises UserError unless `key` is one PRNG key, of jax.random.key or PRNGKey; traced or not."""
  remedy = f"give {name}=jax.random.key(seed)"
  check_kind(name, key, (jax.Array, np.ndarray), remedy)
  if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    axes = key.ndim
  elif key.dtype == np.uint32 and key.ndim:
    raw = jax.eval_shape(lambda: jax.random.PRNGKey(0)).shape
    axes = key.ndim - 1 if key.shape[-1:] == raw else -1
  else:
    axes = -1
  if axes < 0:
    raise UserError(f"{name} is {key.dtype} {list(key.shape)}, which is no PRNG key; {remedy}")
  if axes:
    raise UserError(
      f"{name} is an array of PRNG keys of shape {key.shape[:axes]}; give one of them (jax.vmap"
      " takes one a row)"
    )


def check_arrays(name: str, tree, remedy: str) -> None:
  """Raises UserError unless `tree` is an array or a tree of at least one array, all of numbers.

  Arrays are jax's, traced or not, numpy's, or jax.ShapeDtypeStruct.
  """
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  if not leaves:
    raise UserError(f"{name} is {shown(tree)}, which holds no array; {remedy}")
  for path, leaf in leaves:
    array = isinstance(leaf, (jax.Array, np.ndarray, jax.ShapeDtypeStruct))
    if not array or not _of_numbers(leaf):
      place = jax.tree_util.keystr(path, simple=True, separator="/")
      held = f"{name} holds {shown(leaf)} at {place}" if place else f"{name} is {shown(leaf)}"
      raise UserError(f"{held}, which is no array of numbers; {remedy}")


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
