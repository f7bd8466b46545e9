"""The default model: a small Qwen3 in Hugging Face's layout, trained by `tttjax.pretrain`."""

import pathlib

# The checkpoint directory inside the package.
EMBEDDED = pathlib.Path(__file__).resolve().parent / "checkpoint"
# Tokens of the longest context that it was trained on (docs/embedded/README.md).
TRAINED_CONTEXT = 384
