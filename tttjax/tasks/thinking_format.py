"""How a model thinks before it answers: what opens a thought, ends it, and closes it by force."""

import dataclasses

from tttjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ThinkingFormat:
  """The texts around a thought.

  Attributes:
    end: the end marker: the answer is what follows it.
    forced_stop: inserted where the thinking budget is used up; holds `end` once.
    opener: follows the prompt, as the first words of the thought.
  """

  end: str
  forced_stop: str
  opener: str = ""


# Qwen3's: the prompt (tttjax.tasks.prompt) opens the section with its own token.
SECTION = ThinkingFormat("</think>", "\nThinking budget used up.\n</think>")
# For models without such tokens: free text (zero-shot chain of thought, arXiv 2205.11916). One
# that stops without the marker has answered all the same; all that it wrote is its answer.
FREE_TEXT = ThinkingFormat("Final:", "\nFinal:", "Let's think step by step.")


def has_section(tokenizer) -> bool:
  """Whether the tokenizer has tokens of its own around thoughts."""
  return SECTION.end in tokenizer.get_added_vocab()


def format_of(tokenizer, end: str = "", forced_stop: str = "", opener: str = "") -> ThinkingFormat:
  """The format of a model, with every text that is given instead of its own.

  Raises:
    UserError: forced_stop does not hold the end marker once.
  """
  own = SECTION if has_section(tokenizer) else FREE_TEXT
  if end and not forced_stop and end != own.end:
    forced_stop = f"\n{end}"
  thinking = ThinkingFormat(end or own.end, forced_stop or own.forced_stop, opener or own.opener)
  if thinking.forced_stop.count(thinking.end) != 1:
    raise UserError(
      f"forced_stop {thinking.forced_stop!r} must hold the end marker {thinking.end!r} once"
    )
  return thinking
