"""Writes a self-trained model as a checkpoint directory in Hugging Face's layout."""

import pathlib
import shutil
import tempfile

from tttjax.checkpoint.hf_export import export
from tttjax.checkpoint.tokenizers import write_tokenizer
from tttjax.files import write_json
from tttjax.models.decoder import Decoder


def write_checkpoint(directory, model: Decoder, params, tokenizer) -> None:
  """Writes config.json, model.safetensors (float32), the tokenizer and generation_config.json.

  Replaces `directory`, which must be absent or one that this function wrote.
  """
  directory = pathlib.Path(directory)
  ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
  with tempfile.TemporaryDirectory() as scratch:
    source = pathlib.Path(scratch)
    write_tokenizer(source, tokenizer)
    write_json(source / "config.json", ids)  # The ids are all that export reads of it.
    write_json(
      source / "generation_config.json",
      {**ids, "do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20},
    )
    if directory.exists():
      shutil.rmtree(directory)
    export(directory, model, params, source=source)
