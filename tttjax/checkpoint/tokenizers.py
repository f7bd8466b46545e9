"""The tokenizer of a checkpoint."""

import json
import pathlib

from tttjax.checkpoint.gguf_header import read_header
from tttjax.checkpoint.gguf_tokenizer import build_gguf_tokenizer
from tttjax.checkpoint.paths import checkpoint_path
from tttjax.errors import UserError
from tttjax.files import write_json
from tttjax.lazy_imports import transformers_library

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


def load_tokenizer(path):
  """The checkpoint's tokenizer as transformers' class; local files, no remote code.

  Args:
    path: checkpoint directory with tokenizer.json (or vocab.json and merges.txt), a GGUF file, or
      the name of a model.

  Raises:
    UserError: the tokenizer's files are missing or cannot be read, or its chat template fails on
      the simplest conversation.
  """
  path = checkpoint_path(path)
  tokenizer = _of_directory(path) if path.is_dir() else build_gguf_tokenizer(read_header(path))
  if tokenizer.chat_template:
    try:
      tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True
      )
    except Exception as error:  # Whatever the template's code raises.
      place = "chat_template.jinja or tokenizer_config.json" if path.is_dir() else "the metadata"
      raise UserError(
        f"{path}: chat_template fails ({_first_line(error)}); correct it in {place}, or fetch that"
        " file again"
      ) from None
  return tokenizer


def encode(tokenizer, text: str) -> tuple[int, ...]:
  """Token ids of a text that carries its own special tokens.

  Raises:
    UserError: it holds a half of a surrogate pair, which no encoding of text has.
  """
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise UserError(
      f"the text holds {text[error.start]!a} at character {error.start}, which is half of a"
      " surrogate pair and no text: decode its source as UTF-8"
    ) from None
  # Not verbose: that a text exceeds the tokenizer's model_max_length is said elsewhere.
  return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def write_tokenizer(directory: pathlib.Path, tokenizer) -> None:
  """Writes tokenizer.json and a tokenizer_config.json that transformers 4 and 5 both read."""
  tokenizer.save_pretrained(directory)
  # Transformers 5 puts the template into a file of its own, which 4 did not always read.
  (directory / "chat_template.jinja").unlink(missing_ok=True)
  path = directory / "tokenizer_config.json"
  values = json.loads(path.read_text(encoding="utf-8")) | {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "chat_template": tokenizer.chat_template,
  }
  write_json(path, values)


def _of_directory(path: pathlib.Path):
  """By transformers' AutoTokenizer, or the class that it would choose where the files name one that
  belongs to no model: AutoTokenizer imports torch where there is one, which takes a second."""
  if not any((path / file).exists() for file in _TOKENIZER_FILES):
    raise UserError(
      f"{path}: has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}); copy the tokenizer's"
      " files of the checkpoint there"
    )
  library = transformers_library()
  try:
    chosen = library.PreTrainedTokenizerFast if _is_plain(path) else library.AutoTokenizer
    return chosen.from_pretrained(path, local_files_only=True, trust_remote_code=False)
  except Exception as error:  # The tokenizers library raises plain Exception for a corrupt file.
    raise UserError(
      f"{path}: cannot load the tokenizer ({_first_line(error)}); fetch its files again"
    ) from None


def _is_plain(path: pathlib.Path) -> bool:
  """Whether tokenizer.json is all that there is to a directory's tokenizer."""
  config = path / "tokenizer_config.json"
  if not (path / "tokenizer.json").exists() or not config.exists():
    return False
  values = json.loads(config.read_text(encoding="utf-8"))
  return values.get("tokenizer_class") == "PreTrainedTokenizerFast"


def _first_line(error: Exception) -> str:
  return (str(error).strip() or type(error).__name__).split("\n")[0]
