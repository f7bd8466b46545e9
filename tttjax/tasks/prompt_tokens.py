"""Prompts as token ids: the encoding of the whole string, cut between context and question.

The template's special tokens are special tokens; the same characters in the user's text stay text,
so that no document can end the user's turn or open a thought. Context and question are encoded
together, since a tokenizer may merge what stands on both sides of the cut: the cut then moves to
the last place in front of it at which a token ends in the prompt of every question.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import json
import weakref

import numpy as np
from tokenizers import Tokenizer

from tttjax.tasks.example import Example

# A seam is encoded with so many tokens in front of it, of which the first half must come out as
# they did within the whole: from there on a tokenizer does not look back.
_WINDOW = 512

# Tokenizers without the special tokens of the ones that transformers made.
_PLAIN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class PromptTokens:
  """One context and its questions; `context` + any of the others is a whole prompt.

  Attributes:
    context: int32 [T].
    prompts: of each question, the suffix that asks for the answer at once.
    thinking_prompts: the same up to where a thought goes on.
  """

  context: np.ndarray
  prompts: tuple[tuple[int, ...], ...]
  thinking_prompts: tuple[tuple[int, ...], ...]


def encode_context(tokenizer, text: str, header: int) -> tuple[np.ndarray, np.ndarray]:
  """Token ids int32 [T] of a context and the characters [start, end) of each, int64 [T, 2].

  Args:
    tokenizer: transformers fast tokenizer.
    text: `Example.context`.
    header: how many of its first characters are the template's.
  """
  return _encode(tokenizer, text, header, len(text))


def encode_text(tokenizer, text: str, asked: int) -> tuple[int, ...]:
  """Token ids of the end of a prompt by itself, of which the first `asked` characters are plain."""
  return tuple(_encode(tokenizer, text, 0, asked)[0].tolist())


def encode_prompts(tokenizer, example: Example, opener: str = "") -> PromptTokens:
  """The prompts of an example.

  Args:
    tokenizer: transformers fast tokenizer.
    example: what is asked.
    opener: first words of every thought.
  """
  context, offsets = encode_context(tokenizer, example.context, example.header)
  suffixes = [(q.text, q.asked) for q in example.questions]
  suffixes += [(q.thinking_text + opener, q.asked) for q in example.questions]
  begin = max(len(context) - _WINDOW, 0)
  tails = [_seam(tokenizer, example, offsets, context, begin, *suffix) for suffix in suffixes]
  # What all prompts begin with, as far as it is the context's.
  shared = min((_agreeing(context[begin:], *tail) for tail in tails), default=len(context) - begin)
  rest = [tuple(ids[shared:].tolist()) for ids, _ in tails]
  number = len(example.questions)
  return PromptTokens(context[: begin + shared], tuple(rest[:number]), tuple(rest[number:]))


def _seam(
  tokenizer,
  example: Example,
  offsets: np.ndarray,
  context: np.ndarray,
  begin: int,
  suffix: str,
  asked: int,
) -> tuple[np.ndarray, int]:
  """Ids of the prompt from the context's token `begin` on, and how many end within the context."""
  text = example.context + suffix
  cut, user_end = len(example.context), len(example.context) + asked
  start = int(offsets[begin - 1, 1]) if begin else 0
  header = max(example.header - start, 0)
  ids, places = _encode(tokenizer, text[start:], header, user_end - start)
  half = min(_WINDOW // 2, begin)
  if not np.array_equal(ids[:half], context[begin : begin + half]):
    ids, places = _encode(tokenizer, text, example.header, user_end)
    ids, places, start = ids[begin:], places[begin:], 0
  return ids, int(np.searchsorted(places[:, 1], cut - start, side="right"))


def _agreeing(context: np.ndarray, ids: np.ndarray, within: int) -> int:
  """Length of the longest common prefix that ends within the context."""
  most = min(len(context), len(ids), within)
  different = np.flatnonzero(context[:most] != ids[:most])
  return int(different[0]) if different.size else most


def _encode(tokenizer, text: str, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
  """Ids and offsets of a text in which the characters [begin, end) are the user's."""
  # The stretch of plain text around the user's: from the template's last special token before it
  # to the first behind it.
  specials = tuple(tokenizer.get_added_vocab())
  first = max((text.rfind(s, 0, begin) + len(s) for s in specials if s in text[:begin]), default=0)
  last = min((text.find(s, end) for s in specials if s in text[end:]), default=len(text))
  parts = ((0, first, False), (first, last, True), (last, len(text), False))
  ids: list[Sequence[int]] = []
  offsets = [np.zeros((0, 2), np.int64)]
  for start, stop, is_plain in parts:
    if start < stop:
      some, places = _encoded(tokenizer, text[start:stop], is_plain)
      ids.append(some)
      offsets.append(np.asarray(places, np.int64).reshape(-1, 2) + start)
  return np.fromiter(itertools.chain(*ids), np.int32), np.concatenate(offsets)


def _encoded(tokenizer, text: str, plain: bool):
  """(ids, offsets) of a text, special tokens read as such unless it is plain."""
  if plain:
    encoding = _plain(tokenizer).encode(text, add_special_tokens=False)
    return encoding.ids, encoding.offsets
  made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
  return made["input_ids"], made["offset_mapping"]


def _plain(tokenizer):
  """The tokenizer without its added tokens: their characters are characters like any others."""
  if tokenizer not in _PLAIN:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
    _PLAIN[tokenizer] = Tokenizer.from_str(json.dumps(state))
  return _PLAIN[tokenizer]
