"""Prompts as a context part that many questions share and a suffix for each question.

The chat template of the tokenizer renders the whole conversation; without one the prompt is plain
text. `prompt_tokens` makes token ids of it.
"""

import dataclasses

from tttjax.errors import UserError
from tttjax.tasks.thinking_format import has_section

QUESTION_HEADER = "[QUESTION]"
ANSWER_HEADER = "[ANSWER]"  # where no chat template says whose turn it is


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A conversation of one message.

  Attributes:
    context: the template's header and the user's text up to the question.
    text: the rest; context + text asks for the answer at once.
    thinking_text: the rest of the prompt after which a thought begins: its section has just been
      opened. The same for a model whose thoughts are free text.
    header: characters of `context` that the template wrote.
    asked: characters of `text`, and of `thinking_text`, that the user wrote.
  """

  context: str
  text: str
  thinking_text: str
  header: int
  asked: int


def headed(question: str) -> str:
  """A question under the header that the synthetic tasks give it."""
  return f"{QUESTION_HEADER} {question}"


def render(tokenizer, context: str, question: str) -> Prompt:
  """Renders a one-question conversation and cuts it in front of the question.

  Args:
    tokenizer: transformers tokenizer, with or without a chat template.
    context: the user's text up to the question.
    question: the user's text from there on.

  Raises:
    UserError: the template fails, or alters the user's text.
  """
  body = context + question
  if not getattr(tokenizer, "chat_template", None):
    text = f"{question}\n{ANSWER_HEADER}\n"
    thinking_text = text + "<think>\n" if has_section(tokenizer) else text
    return Prompt(context, text, thinking_text, 0, len(question))
  messages = [{"role": "user", "content": body}]
  try:
    plain, thinking = (
      tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=flag
      )
      for flag in (False, True)
    )
  except Exception as error:  # Whatever the template's code raises.
    reason = (str(error).strip() or type(error).__name__).split("\n")[0]
    raise UserError(
      f"{_name(tokenizer)}: chat_template fails on a message of {len(body)} characters ({reason});"
      " correct it, or fetch the tokenizer's files again"
    ) from None
  start = plain.find(body)
  if start < 0 or thinking[: start + len(body)] != plain[: start + len(body)]:
    raise UserError(
      f"{_name(tokenizer)}: chat_template changes the text of the user message: prompts cannot be"
      " split; use another checkpoint, or correct it"
    )
  if plain.rstrip().endswith("<think>"):
    # Templates that always think open the section whatever they are asked for: close it unused.
    plain = plain.rstrip() + "\n\n</think>\n\n"
  # The 2507 templates open the section themselves.
  if has_section(tokenizer) and not thinking.rstrip().endswith("<think>"):
    thinking += "<think>\n"
  cut = start + len(context)
  return Prompt(plain[:cut], plain[cut:], thinking[cut:], start, len(question))


def _name(tokenizer) -> str:
  """Where it was loaded from, as far as it knows."""
  return getattr(tokenizer, "name_or_path", "") or "the checkpoint"
