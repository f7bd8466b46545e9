"""Libraries that take long to import, imported where they are first used."""

import os


def transformers_library():
  """transformers, without its advice to install PyTorch: here it only tokenizes."""
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
  import transformers  # takes seconds; the model needs none of it

  return transformers
