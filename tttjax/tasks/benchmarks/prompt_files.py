"""A benchmark's own prompt texts, read from a copy that the user fetched."""

import hashlib
import pathlib

from tttjax.errors import UserError
from tttjax.files import read_regular
from tttjax.third_party import load_copy


def read_prompt(name: str, folder: pathlib.Path, file: str) -> str:
  """The text of a prompt file that a manifest describes.

  Args:
    name: of the manifest.
    folder: the user's copy of the files.
    file: which.

  Raises:
    UserError: it is not there, or is not the one of the manifest.
  """
  manifest = load_copy(name)
  path = folder / file
  if not path.is_file():
    raise UserError(f"{path}: no such file; {manifest.how}, or take prompts=own")
  data = read_regular(path)
  if (digest := hashlib.sha256(data).hexdigest()) != manifest.files[file]:
    raise UserError(
      f"{path}: SHA-256 {digest} is not the {manifest.files[file]} of third_party/{name}.json;"
      f" {manifest.how}, or take prompts=own"
    )
  return data.decode("utf-8")
