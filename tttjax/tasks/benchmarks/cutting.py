"""Documents that are longer than a prompt may be: which part of them is kept."""

import numpy as np

from tttjax.errors import UserError
from tttjax.tasks.prompt_tokens import encode_context


def cut_middle(
  tokenizer, before: str, document: str, afters: tuple[str, ...], limit: int
) -> tuple[str, float]:
  """Cuts a message in its middle, as LongBench does: the first and the last half of its ids stay.

  Args:
    tokenizer: transformers fast tokenizer.
    before: the message in front of the document.
    document: what is cut.
    afters: the message behind it, of each question; the longest decides.
    limit: most tokens of the message.

  Returns:
    (the document that is left, the share of its tokens that that is).

  Raises:
    UserError: what stands around the document has no room.
  """
  count = lambda text: len(_ids(tokenizer, text))
  after = max(afters, key=count)
  ids = _ids(tokenizer, before + document + after)
  if len(ids) <= limit:
    return document, 1.0
  half = limit // 2
  kept = tokenizer.decode(np.concatenate([ids[:half], ids[len(ids) - (limit - half) :]]))
  share = _share(len(ids), limit, count(before), count(after))
  if kept.startswith(before) and kept.endswith(after) and len(kept) >= len(before) + len(after):
    return kept[len(before) : len(kept) - len(after)], share
  # A half is shorter than what stands on its side of the document.
  room = limit - count(before) - count(after)
  ids = _ids(tokenizer, document)
  if room < 1:
    raise UserError(_no_room(count(before) + count(after), limit))
  tail = ids[len(ids) - (room - room // 2) :]
  return tokenizer.decode(np.concatenate([ids[: room // 2], tail])), room / len(ids)


def cut_end(
  tokenizer, document: str, afters: tuple[str, ...], separator: str, limit: int
) -> tuple[str, float]:
  """Cuts the end of what precedes the query and puts a separator there, as ZeroSCROLLS does.

  Returns:
    (the document that is left with its separator, the share of its tokens that is left).

  Raises:
    UserError: the query has no room.
  """
  count = lambda text: len(_ids(tokenizer, text))
  longest = max(afters, key=count)
  ids = _ids(tokenizer, document)
  if count(document + longest) <= limit:
    return document, 1.0
  room = limit - count(separator + longest)
  if room < 1:
    raise UserError(_no_room(count(separator + longest), limit))
  return tokenizer.decode(ids[:room]) + separator, min(room / len(ids), 1.0)


def _ids(tokenizer, text: str) -> np.ndarray:
  """Of a user's text: special tokens in it are text."""
  return encode_context(tokenizer, text, 0)[0]


def _share(tokens: int, limit: int, before: int, after: int) -> float:
  """Of the document, where the message is cut from `tokens` to `limit`."""
  document = max(tokens - before - after, 1)
  return max(document - (tokens - limit), 0) / document


def _no_room(tokens: int, limit: int) -> str:
  return (
    f"the question and the instructions have {tokens} tokens and the message may have {limit}:"
    " nothing of the document would be left; allow longer messages, or leave the question out"
  )
