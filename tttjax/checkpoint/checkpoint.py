"""A checkpoint as one value: checked when it is opened, weights read when loaded."""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import pathlib
from typing import Any

from tttjax.checkpoint.config_json import read_config
from tttjax.checkpoint.fields import MOST, Fields, read_json, shown
from tttjax.checkpoint.gguf_config import read_gguf_config
from tttjax.checkpoint.gguf_header import read_header
from tttjax.checkpoint.gguf_index import index_gguf
from tttjax.checkpoint.gguf_tokenizer import declared_stop_ids
from tttjax.checkpoint.paths import GGUF_SUFFIX, checkpoint_path
from tttjax.checkpoint.safetensors_index import index_tensors
from tttjax.checkpoint.stored_tensor import StoredTensor
from tttjax.checkpoint.tokenizers import load_tokenizer
from tttjax.checks import check_number
from tttjax.embedded import EMBEDDED, TRAINED_CONTEXT
from tttjax.errors import UserError
from tttjax.models.decoder_config import DecoderConfig, YarnConfig

QWEN_TRAINED = 32_768  # tokens, of the recipe that Qwen publishes
# Enough of a file's head and tail to notice that weights were replaced.
_FINGERPRINT_BYTES = 1 << 16
_FINGERPRINTED = (".json", ".safetensors", GGUF_SUFFIX)


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
  """An opened checkpoint, in Hugging Face's layout or GGUF; made by `open_checkpoint`.

  Attributes:
    path: its directory or file.
    config: the architecture.
    tensors: Hugging Face's name -> tensor on disk, for exactly the tensors that the architecture
      needs.
    declared_stop_ids: the eos_token_id of generation_config.json and of config.json, or the ends
      of sequence, turn and message of a GGUF file.
    extension: YaRN that was asked for beside the files; None is as they say.
  """

  path: pathlib.Path
  config: DecoderConfig
  tensors: Mapping[str, StoredTensor]
  declared_stop_ids: frozenset[int]
  extension: YarnConfig | None = None

  @functools.cached_property
  def tokenizer(self) -> Any:
    """The tokenizer of transformers, loaded when first asked for.

    Raises:
      UserError: the tokenizer's files are missing or cannot be read.
    """
    return load_tokenizer(self.path)

  @functools.cached_property
  def stop_ids(self) -> tuple[int, ...]:
    """Ids that end an answer, ascending: the declared ones and the tokenizer's end of sequence.

    Raises:
      UserError: the tokenizer cannot be loaded, or its end of sequence is not in the vocabulary.
    """
    eos = self.tokenizer.eos_token_id
    if eos is not None and not 0 <= eos < self.config.vocab_size:
      raise UserError(
        f"{self.path}: the tokenizer's eos_token has id {eos}, outside the model's vocabulary of"
        f" {self.config.vocab_size}; use the tokenizer of this checkpoint"
      )
    return tuple(sorted(self.declared_stop_ids | ({eos} - {None})))

  @functools.cached_property
  def fingerprint(self) -> str:
    """Hash over names, sizes, heads and tails of the JSON and weight files, 16 hex digits.

    The extension changes what the model computes, and is hashed too.
    """
    digest = hashlib.sha256(repr(self.extension).encode() if self.extension else b"")
    try:
      inside = self.path.iterdir() if self.path.is_dir() else (self.path,)
      for path in sorted(p for p in inside if p.suffix in _FINGERPRINTED):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with open(path, "rb") as file:
          digest.update(file.read(_FINGERPRINT_BYTES))
          file.seek(max(size - _FINGERPRINT_BYTES, 0))
          digest.update(file.read())
    except OSError as error:
      raise UserError(f"{self.path}: cannot be read ({error}); fetch it again") from None
    return digest.hexdigest()[:16]

  @property
  def trained_length(self) -> int:
    """Tokens of the longest context that the model was trained on, as far as its files say."""
    if self.path.resolve() == EMBEDDED:
      return TRAINED_CONTEXT
    # Llama 3's extension was trained, YaRN is added afterwards.
    if isinstance(self.config.rope_scaling, YarnConfig):
      return self.config.rope_scaling.original_max_position_embeddings
    return self.config.max_position_embeddings

  def extended(self, factor: float, original: int = QWEN_TRAINED) -> "Checkpoint":
    """The same checkpoint with YaRN, which its files do not ask for.

    Args:
      factor: positions become factor x original, such as 4.0.
      original: tokens that the model was trained on. Qwen3 and Qwen2.5: 32,768, fewer than their
        max_position_embeddings.

    Raises:
      UserError: an argument is out of range, or the files extend the context already.
    """
    factor = check_number("factor", factor, 1)
    most = self.config.max_position_embeddings
    original = check_number("original", original, 1, most, whole=True)
    if self.config.rope_scaling is not None:
      raise UserError(
        f"{self.path}: its files extend the context to {self.config.max_positions} positions"
        " already; leave YaRN out, or change it there"
      )
    if factor * original <= most:
      raise UserError(
        f"{self.path}: has {most} positions, and YaRN of factor={factor} over original={original}"
        " gives it no more; leave YaRN out"
      )
    if factor * original > MOST:
      raise UserError(
        f"factor={factor} extends {original} positions beyond the {MOST} there are; lower it"
      )
    yarn = YarnConfig(float(factor), original)
    config = dataclasses.replace(self.config, rope_scaling=yarn)
    return dataclasses.replace(self, config=config, extension=yarn)


def open_checkpoint(path) -> Checkpoint:
  """Opens a checkpoint and checks all that can be checked without reading its weights.

  A stored LM head is compared with the embeddings where config.json says that they are tied; no
  other weights are read.

  Args:
    path: local directory with config.json and model.safetensors or its shards and index, of
      transformers 4 or 5; a local GGUF file; or the name of a model (`NAMED_MODELS`). A leading
      `~` means the home directory.

  Raises:
    UserError: the directory or a file is missing, unreadable or corrupt, the architecture is not
      implemented, a tensor is missing, unexpected or of the wrong shape or dtype, or a stop id is
      not in the vocabulary. The message names the file and the field or tensor.
  """
  path = checkpoint_path(path)
  if path.is_dir():
    return _open_directory(path)
  header = read_header(path)
  config = read_gguf_config(header)
  tensors = index_gguf(header, config)
  return Checkpoint(path, config, tensors, declared_stop_ids(header, config.vocab_size))


def _open_directory(path: pathlib.Path) -> Checkpoint:
  config = read_config(path)
  tensors = index_tensors(path, config)
  stop_ids: set[int] = set()
  for file in (path / "generation_config.json", path / "config.json"):
    if file.exists():
      stop_ids |= _eos_token_ids(Fields(file, read_json(file)), config.vocab_size)
  return Checkpoint(path, config, tensors, frozenset(stop_ids))


def _eos_token_ids(fields: Fields, vocab_size: int) -> set[int]:
  """The field eos_token_id, an id or a list of ids; empty where it is absent or null."""
  value = fields.values.get("eos_token_id")
  ids = [] if value is None else value if isinstance(value, list) else [value]
  for token in ids:
    if type(token) is not int or not 0 <= token < vocab_size:  # Not bool.
      raise fields.error(
        "eos_token_id",
        f"holds {shown(token)}, which is not an id of the vocabulary of {vocab_size}; correct it",
      )
  return set(ids)
