"""A context with its questions, as every strategy receives it."""

from collections.abc import Callable
import dataclasses

import numpy as np

from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.session import Room
from tttjax.tasks.example import Example


@dataclasses.dataclass(frozen=True)
class Decoding:
  """How answers to one context are decoded.

  Attributes:
    answer: sampling of an answer without thinking, with a limit of each question's.
    thinking: the same after thoughts, but for their budget.
    positions: that the model has, for the context and everything after it.
    mechanism: measure what the attention does to the evidence too.
  """

  answer: SamplingConfig
  thinking: SamplingConfig
  positions: int
  mechanism: bool = False

  def with_thoughts(self, tokens: int, begin: int) -> SamplingConfig:
    """Sampling with a thinking budget of `tokens`, inserted ones included.

    Args:
      begin: positions taken before the first thinking token.

    Raises:
      UserError: too few tokens to insert the forced stop.
    """
    forced = len(self.thinking.forced_stop_ids)
    if tokens <= forced:
      raise UserError(
        f"{tokens} thinking tokens are too few for the {forced} of the forced stop; raise the"
        " budget, or take fewer samples"
      )
    longest = self.answer.max_new_tokens
    # Budgets differ by a few tokens from context to context; one program serves them.
    room = _rounded(tokens) + longest
    room = max(min(room, self.positions - begin), tokens + longest)
    return dataclasses.replace(
      self.thinking,
      max_new_tokens=room,
      thinking_budget=tokens - forced,
    )


def _rounded(tokens: int) -> int:
  """The next multiple of a quarter of the power of two below, and of 64."""
  step = max(64, (1 << (max(tokens, 1).bit_length() - 1)) // 4)
  return -(-tokens // step) * step


@dataclasses.dataclass(frozen=True)
class Case:
  """A context with the questions that are asked about it, as token ids.

  Attributes:
    example: the text; its questions are those asked.
    tokens: int32 [1, T], the context.
    capacity: slots of its cache, at least T.
    prompts: ids per question: the suffix that asks for the answer at once.
    thinking_prompts: the same up to where a thought goes on: its section, or its first words.
    answers: ids of the first reference of each question.
    room: what batches of its questions are padded to at least.
    extract: an output's answer in one canonical form, for votes; None where it has no answer.
    decoding: of its answers.
    other: a different context of the same length, for controls; None without one.
  """

  example: Example
  tokens: np.ndarray
  capacity: int
  prompts: tuple[tuple[int, ...], ...]
  thinking_prompts: tuple[tuple[int, ...], ...]
  answers: tuple[tuple[int, ...], ...]
  room: Room
  extract: Callable[[str], str | None]
  decoding: Decoding
  other: "Case | None" = None

  @property
  def num_tokens(self) -> int:
    return self.tokens.shape[1]

  @property
  def num_questions(self) -> int:
    return len(self.prompts)
