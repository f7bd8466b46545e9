"""Where a checkpoint is: a directory whose files can be read, a GGUF file, or a model's name."""

import os
import pathlib
import stat

from tttjax.checkpoint.named_models import NAMED_MODELS
from tttjax.errors import UserError
from tttjax.files import user_path

GGUF_SUFFIX = ".gguf"
# Of the files that this package or transformers' tokenizers read.
_SUFFIXES = (".json", ".jinja", ".safetensors", ".txt")


def checkpoint_path(path) -> pathlib.Path:
  """The directory or GGUF file of a checkpoint.

  Args:
    path: local directory, file ending in .gguf, or one of `NAMED_MODELS`, which a directory of
      the same name in the current one does not shadow (write ./NAME).

  Raises:
    UserError: there is none, it cannot be read, or the named model is not installed.
  """
  if isinstance(path, str) and path in NAMED_MODELS:
    return NAMED_MODELS[path]()
  file = user_path(path, "the path of the checkpoint")
  if file.suffix != GGUF_SUFFIX or os.path.isdir(file):
    return checkpoint_directory(path)
  if not os.path.lexists(file):
    raise UserError(f"{file}: no such file; give a local GGUF file (models are not fetched)")
  check_file(file)
  return file


def checkpoint_directory(path) -> pathlib.Path:
  """The directory at `path`, whose files are readable regular files.

  A dangling link or a named pipe is refused here, as opening a pipe waits for ever.

  Raises:
    UserError: there is no directory at `path`, or an entry that would be read is no regular file.
  """
  directory = user_path(path, "the path of the checkpoint")
  if not os.path.isdir(directory):
    raise UserError(
      f"{directory}: no such directory; give the local directory of a Hugging Face "
      f"checkpoint, a .gguf file or {' or '.join(NAMED_MODELS)} (models are not fetched by name)"
    )
  try:
    entries = sorted(directory.iterdir())
  except OSError as error:
    raise UserError(f"{directory}: cannot be listed ({error.strerror}); permit it") from None
  for entry in entries:
    if entry.suffix in _SUFFIXES:
      check_file(entry)
  return directory


def check_file(path: pathlib.Path) -> None:
  """Raises UserError unless `path` is a regular file, or a link to one, that may be read."""
  try:
    mode = path.stat().st_mode
  except FileNotFoundError:
    raise UserError(f"{path}: is a link to a file that does not exist; fetch the file") from None
  except OSError as error:
    raise UserError(f"{path}: cannot be read ({error.strerror}); fetch the file again") from None
  if not stat.S_ISREG(mode):
    kind = "a directory" if stat.S_ISDIR(mode) else "a pipe or a device"
    raise UserError(f"{path}: is {kind} but must be a file; remove it or fetch the file")
  if not os.access(path, os.R_OK):
    raise UserError(f"{path}: cannot be read (no permission); permit it")
