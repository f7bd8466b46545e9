"""The tokenizer of a checkpoint directory."""

import pathlib

from tttjax.errors import UserError

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


def load_tokenizer(path):
  """The checkpoint's tokenizer, by transformers' AutoTokenizer; local files, no remote code.

  Args:
    path: checkpoint directory with tokenizer.json (or vocab.json and merges.txt).

  Raises:
    UserError: the tokenizer's files are missing or cannot be read.
  """
  from transformers import AutoTokenizer  # Takes seconds to import; the model needs none of it.

  path = pathlib.Path(path)
  if not path.is_dir():
    raise UserError(f"{path}: no such directory; give the local directory of a checkpoint")
  if not any((path / file).exists() for file in _TOKENIZER_FILES):
    raise UserError(
      f"{path}: has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}); copy the tokenizer's"
      " files of the checkpoint there"
    )
  try:
    return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
  except Exception as error:  # The tokenizers library raises plain Exception for a corrupt file.
    reason = str(error).strip().split("\n")[0]
    raise UserError(
      f"{path}: cannot load the tokenizer ({reason}); fetch its files again"
    ) from None
