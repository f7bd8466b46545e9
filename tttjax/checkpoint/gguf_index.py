"""Index of a GGUF file's tensors under Hugging Face's names, checked before any is loaded."""

from tttjax.checkpoint.gguf_config import ROPE_FACTORS
from tttjax.checkpoint.gguf_header import FETCH, Header, TensorInfo
from tttjax.checkpoint.gguf_tensor import QUANTISED, GgufTensor
from tttjax.checkpoint.stored_tensor import DTYPES
from tttjax.errors import UserError
from tttjax.lazy_imports import gguf_library
from tttjax.models.decoder_config import DecoderConfig
from tttjax.models.families import FAMILIES


def index_gguf(header: Header, config: DecoderConfig) -> dict[str, GgufTensor]:
  """Finds and checks every tensor that a model of `config` needs.

  Args:
    header: of the file.
    config: its architecture, which the tensors must fit.

  Returns:
    Hugging Face's name -> stored tensor, for exactly the family's `file_shapes(config)`.

  Raises:
    UserError: a tensor is missing, unexpected, or of the wrong shape or type.
  """
  family = FAMILIES[config.model_type]
  # Before anything of the size that the metadata claims: a claim of 1e9 layers ends here.
  if config.num_hidden_layers > len(header.tensors):
    raise UserError(
      f"{header.path}: key '{config.model_type}.block_count' is {config.num_hidden_layers} but the"
      f" file has {len(header.tensors)} tensors; {FETCH}"
    )
  names = _gguf_names(config)
  left = dict(header.tensors)
  tensors = {}
  for name, shape in family.file_shapes(config).items():
    stored = names(name)
    info = left.pop(stored, None)
    if info is None:
      raise UserError(f"{header.path}: tensor {stored} is missing; {FETCH}")
    _check(header, info, shape)
    tensors[name] = GgufTensor(header.path, info, _permuted_heads(config, name))
  if config.model_type == "llama":
    left.pop(ROPE_FACTORS, None)  # The config has it.
  if left:
    raise UserError(
      f"{header.path}: unexpected tensor {min(left)}; the metadata does not describe it (another"
      f" architecture, or more layers than '{config.model_type}.block_count')"
    )
  return tensors


def _gguf_names(config: DecoderConfig):
  """Hugging Face's name -> the file's."""
  gguf = gguf_library()
  architecture = next(
    key for key, name in gguf.constants.MODEL_ARCH_NAMES.items() if name == config.model_type
  )
  table = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
  return lambda name: table.get_name(name, try_suffixes=(".weight", ".bias"))


def _permuted_heads(config: DecoderConfig, name: str) -> int:
  """Heads of a tensor whose rows llama.cpp permutes, else 0."""
  if config.model_type != "llama":
    return 0
  if name.endswith("q_proj.weight"):
    return config.num_attention_heads
  return config.num_key_value_heads if name.endswith("k_proj.weight") else 0


def _check(header: Header, info: TensorInfo, shape: tuple[int, ...]) -> None:
  if info.shape != shape:
    raise UserError(
      f"{header.path}: tensor {info.name} has shape {list(info.shape)}, the metadata asks for"
      f" {list(shape)}; {FETCH}"
    )
  supported = (*DTYPES, *QUANTISED)
  if info.type not in supported:
    raise UserError(
      f"{header.path}: tensor {info.name} has type {info.type}, supported are"
      f" {', '.join(supported)}; use a release of the model in one of these"
    )
