"""Prompts as a context part that many questions share and a suffix for each question.

The chat template of the tokenizer renders the whole conversation; the cut is in front of the
`[QUESTION]` header, after a newline. The embedded tokenizer never joins a newline with what
follows it, so tokens(context) + tokens(suffix) == tokens(context + suffix).
"""

from tttjax.errors import UserError

QUESTION_HEADER = "[QUESTION]"


def render(tokenizer, context: str, question: str) -> tuple[str, str, str]:
  """Renders a one-question conversation and cuts it in front of the question.

  Args:
    tokenizer: transformers tokenizer with a chat template.
    context: body of the user message up to the question; ends with a newline.
    question: text of the question, without its header.

  Returns:
    (prefix, suffix, thinking_suffix): prefix + suffix is the prompt that asks for the answer
    at once, prefix + thinking_suffix the one that has just opened the thinking section.

  Raises:
    UserError: the tokenizer has no chat template, or the template alters the user's text.
  """
  if not getattr(tokenizer, "chat_template", None):
    raise UserError(
      "tokenizer_config.json has no chat_template: use an instruction-tuned checkpoint"
    )
  body = f"{context}{QUESTION_HEADER} {question}"
  messages = [{"role": "user", "content": body}]
  plain, thinking = (
    tokenizer.apply_chat_template(
      messages, tokenize=False, add_generation_prompt=True, enable_thinking=flag
    )
    for flag in (False, True)
  )
  start = plain.find(body)
  if start < 0 or thinking[: start + len(body)] != plain[: start + len(body)]:
    raise UserError("chat_template changes the text of the user message: prompts cannot be split")
  if plain.rstrip().endswith("<think>"):
    # Templates that always think open the section whatever they are asked for: close it unused.
    plain = plain.rstrip() + "\n\n</think>\n\n"
  if not thinking.rstrip().endswith("<think>"):  # The 2507 templates open the section themselves.
    thinking += "<think>\n"
  cut = start + len(context)
  return plain[:cut], plain[cut:], thinking[cut:]
