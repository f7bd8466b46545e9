"""Libraries that take long to import, imported where they are first used."""

import os

from tttjax.errors import UserError


def transformers_library():
  """transformers, without its advice to install PyTorch: here it only tokenizes."""
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
  import transformers  # takes seconds; the model needs none of it

  return transformers


def gguf_library():
  """The gguf package; raises UserError where it is not installed."""
  try:
    import gguf  # an extra
  except ImportError:
    raise UserError(
      "GGUF files are read with the package gguf, which is not installed; run"
      " pip install 'tttjax[gguf]'"
    ) from None
  return gguf
