"""What closes a thinking section: one token, or a text that tokens may spell in any way."""

import dataclasses
import functools

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from tttjax.checks import check_number
from tttjax.errors import UserError

_LONGEST = 64  # characters of a marker


@dataclasses.dataclass(frozen=True, eq=False)
class TextMarker:
  """A text that ends the thoughts of a model without a token for it, wherever it is completed.

  The output is read as text, so it does not matter into which tokens the model splits the marker,
  nor what else the token that completes it holds.

  Attributes:
    text: the marker.
    table: uint8 [V, L]. table[token, matched] is how many of the L characters are matched after
      `token` where `matched` of them were before it: the automaton of Knuth, Morris and Pratt, a
      token's characters at once. L itself means that the token completes the marker.
  """

  text: str
  table: np.ndarray

  def count(self, ids) -> int:
    """How often a sequence of ids, read from its start, completes the marker."""
    matched = completed = 0
    for token in ids:
      matched = int(self.table[token, matched])
      if matched == len(self.text):
        matched, completed = 0, completed + 1
    return completed

  def check_vocabulary(self, vocab_size: int) -> None:
    """Raises UserError where it was made for another number of token ids."""
    if len(self.table) != vocab_size:
      raise UserError(
        f"SamplingConfig.end_think was made for {len(self.table)} token ids, the model has"
        f" {vocab_size}: give the model's vocab_size to text_marker"
      )

  def traced(self) -> "TextEnd":
    return TextEnd(jnp.asarray(self.table))


def text_marker(text: str, tokenizer, vocab_size: int) -> TextMarker:
  """Makes the marker for a tokenizer.

  Args:
    text: of at most 64 characters. Case and spaces count.
    tokenizer: transformers tokenizer. Special tokens have no text.
    vocab_size: V of the model, which may exceed the tokenizer's; ids beyond that have no text.

  Raises:
    UserError: an empty or too long text.
  """
  check_number("the length of the end marker", len(text), 1, _LONGEST, whole=True)
  table = np.tile(np.arange(len(text), dtype=np.uint8), (vocab_size, 1))
  steps = _automaton(text)
  other = np.array([0] * len(text) + [len(text)], np.uint8)
  for token, piece in enumerate(_pieces(tokenizer, min(len(tokenizer), vocab_size))):
    for character in piece:
      table[token] = steps.get(character, other)[table[token]]
  return TextMarker(text, table)


def _pieces(tokenizer, count: int) -> list[str]:
  """The text of each token as it continues other text, "" of special tokens.

  After another token, since some tokenizers leave out the space in front of a first one.
  """
  decode = functools.partial(
    tokenizer.batch_decode, skip_special_tokens=True, clean_up_tokenization_spaces=False
  )
  anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
  start = len(decode([anchor])[0])
  return [text[start:] for text in decode([[*anchor, token] for token in range(count)])]


def _automaton(text: str) -> dict[str, np.ndarray]:
  """For each character of the text the states [L + 1] that follow; L stays."""
  steps = {character: [] for character in text}
  for matched in range(len(text)):
    for character, states in steps.items():
      seen = text[:matched] + character
      states.append(next(n for n in range(matched + 1, -1, -1) if seen.endswith(text[:n])))
  return {c: np.array([*states, len(text)], np.uint8) for c, states in steps.items()}


@struct.dataclass
class TokenEnd:
  """A token closes; `token` int32 [], -1 for none."""

  token: jax.Array

  def advance(self, matched: jax.Array, token: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(state, whether the section is closed) after `token`; the state is not used."""
    return matched, token == self.token


@struct.dataclass
class TextEnd:
  """A text closes; `table` of TextMarker."""

  table: jax.Array

  def advance(self, matched: jax.Array, token: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(characters of the marker that are matched, whether all are) after `token`, int32 [...]."""
    length = self.table.shape[1]
    after = self.table[token, jnp.minimum(matched, length - 1)].astype(jnp.int32)
    return after, after == length
