"""The tokenizer of a checkpoint directory."""

from tttjax.checkpoint.paths import checkpoint_directory
from tttjax.errors import UserError
from tttjax.lazy_imports import transformers_library

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


def load_tokenizer(path):
  """The checkpoint's tokenizer, by transformers' AutoTokenizer; local files, no remote code.

  Args:
    path: checkpoint directory with tokenizer.json (or vocab.json and merges.txt).

  Raises:
    UserError: the tokenizer's files are missing or cannot be read, or its chat template fails on
      the simplest conversation.
  """
  path = checkpoint_directory(path)
  if not any((path / file).exists() for file in _TOKENIZER_FILES):
    raise UserError(
      f"{path}: has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}); copy the tokenizer's"
      " files of the checkpoint there"
    )
  try:
    tokenizer = transformers_library().AutoTokenizer.from_pretrained(
      path, local_files_only=True, trust_remote_code=False
    )
  except Exception as error:  # The tokenizers library raises plain Exception for a corrupt file.
    raise UserError(
      f"{path}: cannot load the tokenizer ({_first_line(error)}); fetch its files again"
    ) from None
  if tokenizer.chat_template:
    try:
      tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True
      )
    except Exception as error:  # Whatever the template's code raises.
      raise UserError(
        f"{path}: chat_template fails ({_first_line(error)}); correct it in"
        " chat_template.jinja or tokenizer_config.json, or fetch that file again"
      ) from None
  return tokenizer


def _first_line(error: Exception) -> str:
  return (str(error).strip() or type(error).__name__).split("\n")[0]
