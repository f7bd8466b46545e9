"""The default model: a small Qwen3 that `python -m tttjax.pretrain` trains, in Hugging Face's layout."""

import pathlib

# The checkpoint directory inside the package.
EMBEDDED = pathlib.Path(__file__).resolve().parent / "checkpoint"
