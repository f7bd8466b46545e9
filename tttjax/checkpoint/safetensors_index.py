"""Index of a checkpoint's tensors: headers only, everything checked before any byte is loaded."""

from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import safetensors

from tttjax.checkpoint.fields import read_json, shown
from tttjax.checkpoint.paths import check_file
from tttjax.checkpoint.stored_tensor import DTYPES
from tttjax.errors import UserError
from tttjax.models.decoder_config import DecoderConfig
from tttjax.models.families import FAMILIES
from tttjax.models.tensor_layout import EMBEDDING, LM_HEAD

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_FETCH = "fetch the file again"


@dataclasses.dataclass(frozen=True)
class SafetensorsTensor:
  """A `StoredTensor` of a safetensors file.

  Attributes:
    path: the file that holds it.
    name: its name in the file.
    dtype: the format's name of its data type, e.g. 'BF16'.
    shape: its shape.
  """

  path: pathlib.Path
  name: str
  dtype: str
  shape: tuple[int, ...]

  def read(self, index: tuple[slice, ...]) -> np.ndarray:
    with _opened(self.path) as file:
      return file.get_slice(self.name)[index]


def index_tensors(directory, config: DecoderConfig) -> dict[str, SafetensorsTensor]:
  """Finds and checks every tensor that a model of `config` needs.

  Args:
    directory: checkpoint directory with model.safetensors, or with shards and their index.
    config: the architecture that the tensors must fit.

  Returns:
    Name -> stored tensor, for exactly the tensors of the family's `file_shapes(config)`.

  Raises:
    UserError: a file is missing, truncated or corrupt, or a tensor is missing, unexpected, or of
      the wrong shape or dtype.
  """
  directory = pathlib.Path(directory)
  if (directory / SINGLE_FILE).exists():
    stored = _read_header(directory / SINGLE_FILE)
  elif (directory / INDEX_FILE).exists():
    stored = _read_shards(directory)
  else:
    raise UserError(
      f"{directory}: has neither {SINGLE_FILE} nor {INDEX_FILE}; give a checkpoint "
      "with safetensors weights (other weight formats are not read)"
    )
  return _check_tensors(directory, config, stored)


def _read_shards(directory: pathlib.Path) -> dict[str, SafetensorsTensor]:
  index = directory / INDEX_FILE
  weight_map = read_json(index).get("weight_map")
  if not isinstance(weight_map, dict) or not weight_map:
    raise UserError(
      f"{index}: field 'weight_map' must be an object of tensor name to file name; {_FETCH}"
    )
  for name, file in weight_map.items():
    if not isinstance(file, str) or pathlib.PurePath(file).name != file:
      raise UserError(
        f"{index}: weight_map of {name} is {shown(file)} but must be a file name in the "
        f"same directory; {_FETCH}"
      )
  stored: dict[str, SafetensorsTensor] = {}
  for file in sorted(set(weight_map.values())):
    if not os.path.lexists(directory / file):
      raise UserError(f"{directory / file}: shard is missing, {INDEX_FILE} lists it; fetch it")
    check_file(directory / file)  # whatever its suffix
    for name, tensor in _read_header(directory / file).items():
      if weight_map.get(name) != file:
        raise UserError(
          f"{directory / file}: holds tensor {name}, which {INDEX_FILE} does not "
          "list there; fetch the shards and the index of one release"
        )
      stored[name] = tensor
  for name, file in weight_map.items():
    if name not in stored:
      raise UserError(
        f"{directory / file}: tensor {name} is missing, {INDEX_FILE} lists it there; "
        "fetch the shards and the index of one release"
      )
  return stored


def _read_header(path: pathlib.Path) -> dict[str, SafetensorsTensor]:
  """The tensors of one file; the library checks the header against the file's size.

  Raises:
    UserError: the file is truncated, or its header is not what the format prescribes.
  """
  with _opened(path) as file:
    slices = {name: file.get_slice(name) for name in file.keys()}
    return {
      name: SafetensorsTensor(path, name, tensor.get_dtype(), tuple(tensor.get_shape()))
      for name, tensor in slices.items()
    }


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
  """A safetensors file, mapped: pages that were read are the process's memory until it closes."""
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      yield file
  except safetensors.SafetensorError as error:
    raise UserError(
      f"{path}: truncated, corrupt or a mere pointer to the weights ({error}); {_FETCH}"
    ) from None
  except OSError as error:
    raise UserError(f"{path}: cannot be read ({error}); {_FETCH}") from None


def _check_tensors(
  directory: pathlib.Path, config: DecoderConfig, stored: dict[str, SafetensorsTensor]
) -> dict[str, SafetensorsTensor]:
  """Checks names, shapes and dtypes; returns the tensors that the model needs."""
  family = FAMILIES[config.model_type]
  embedding, head = family.name_of(EMBEDDING), family.name_of(LM_HEAD)
  # Before anything of the size that config.json claims: a claim of 1e9 layers ends here.
  for name in family.file_names(config):
    if name not in stored:
      hint = (
        "; set tie_word_embeddings to true in config.json if the model ties its embeddings"
        if name == head
        else "; fetch the checkpoint again, all of its files, or correct num_hidden_layers"
      )
      raise UserError(f"{directory}: tensor {name} is missing{hint}")
  expected = family.file_shapes(config)
  accepted = dict(expected)
  if config.tie_word_embeddings:  # Some writers store the tied head too.
    accepted[head] = expected[embedding]
  for name, tensor in stored.items():
    if name.endswith("rotary_emb.inv_freq"):  # A buffer of old writers; computed from config.
      continue
    if name not in accepted:
      raise UserError(
        f"{tensor.path}: unexpected tensor {name}; config.json does not describe it "
        "(check num_hidden_layers and the architecture)"
      )
    if tensor.shape != accepted[name]:
      raise UserError(
        f"{tensor.path}: tensor {name} has shape {list(tensor.shape)}, config.json "
        f"asks for {list(accepted[name])}; use the config.json of this checkpoint"
      )
    if tensor.dtype not in DTYPES:
      raise UserError(
        f"{tensor.path}: tensor {name} has dtype {tensor.dtype}, supported are "
        f"{', '.join(DTYPES)}; use an unquantised release of the model"
      )
  if config.tie_word_embeddings and head in stored:
    _check_tied(stored[head], stored[embedding])
  return {name: stored[name] for name in expected}


def _check_tied(head: SafetensorsTensor, embedding: SafetensorsTensor) -> None:
  """A stored head that differs from the embeddings is not tied, whatever config.json says."""
  rows = 4096  # Bounds the memory of the comparison.
  for start in range(0, head.shape[0], rows):
    part = (slice(start, min(start + rows, head.shape[0])),)
    if not np.array_equal(head.read(part), embedding.read(part)):
      raise UserError(
        f"{head.path}: {head.name} differs from {embedding.name} although "
        "tie_word_embeddings is true; set it to false in config.json"
      )
