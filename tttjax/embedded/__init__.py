"""The default model: a small Qwen3 in Hugging Face's layout, trained by `tttjax.pretrain`."""

import pathlib

# The checkpoint directory inside the package.
EMBEDDED = pathlib.Path(__file__).resolve().parent / "checkpoint"
