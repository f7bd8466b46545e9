"""Prompts as a context part that many questions share and a suffix for each question.

The chat template of the tokenizer renders the whole conversation; without one the prompt is plain
text under the same headers. The cut is in front of the `[QUESTION]` header, after a newline. Where
a tokenizer splits text before it merges bytes, as those of the Qwen, Llama 3 and GPT families do,
no token holds both a newline and the bracket behind it, so tokens(context) + tokens(suffix) ==
tokens(context + suffix). Where one does not, the prompt is the two encodings in a row: the same
text in other tokens than usual at that one place.
"""

from tttjax.errors import UserError
from tttjax.tasks.thinking_format import has_section

QUESTION_HEADER = "[QUESTION]"
ANSWER_HEADER = "[ANSWER]"  # where no chat template says whose turn it is


def render(tokenizer, context: str, question: str) -> tuple[str, str, str]:
  """Renders a one-question conversation and cuts it in front of the question.

  Args:
    tokenizer: transformers tokenizer, with or without a chat template.
    context: body of the user message up to the question; ends with a newline.
    question: text of the question, without its header.

  Returns:
    (prefix, suffix, thinking_suffix): prefix + suffix is the prompt that asks for the answer
    at once, prefix + thinking_suffix the one after which a thought begins: its section has just
    been opened. They are the same for a model whose thoughts are free text.

  Raises:
    UserError: the template fails, or alters the user's text.
  """
  body = f"{context}{QUESTION_HEADER} {question}"
  if not getattr(tokenizer, "chat_template", None):
    suffix = f"{body[len(context) :]}\n{ANSWER_HEADER}\n"
    return context, suffix, suffix + "<think>\n" if has_section(tokenizer) else suffix
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
  return plain[:cut], plain[cut:], thinking[cut:]


def _name(tokenizer) -> str:
  """Where it was loaded from, as far as it knows."""
  return getattr(tokenizer, "name_or_path", "") or "the checkpoint"
