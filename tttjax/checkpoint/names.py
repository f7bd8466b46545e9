"""Where each tensor lives: in the checkpoint file and in the parameter tree.

One declaration per kind of tensor serves loading, validation and export. Axes are single letters:
V vocabulary, D hidden, H query heads, K KV heads, d head_dim, F MLP. A file axis of two letters
("Hd") is their product, row-major.
"""

from collections.abc import Iterator
import dataclasses
import math

from tttjax.models.decoder_config import DecoderConfig

LM_HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
QUERY_PATH = ("layers", "attention", "query", "kernel")


@dataclasses.dataclass(frozen=True)
class Layout:
  """One kind of tensor.

  Attributes:
    name: name in the file; "{layer}" stands for the layer number of stacked tensors.
    path: keys in the parameter tree.
    file: axes in the file, e.g. ('Hd', 'D') for a linear map stored as [out, in].
    param: axes in the parameter tree, without the leading layer axis L of stacked tensors.
  """

  name: str
  path: tuple[str, ...]
  file: tuple[str, ...]
  param: str

  @property
  def stacked(self) -> bool:
    return "{layer}" in self.name

  @property
  def from_file(self) -> tuple[int, ...]:
    """Permutation that takes the file's split axes to the parameter's axes."""
    split = "".join(self.file)
    return tuple(split.index(axis) for axis in self.param)

  @property
  def to_file(self) -> tuple[int, ...]:
    """Permutation that takes the parameter's axes to the file's split axes."""
    return tuple(self.param.index(axis) for axis in "".join(self.file))

  def names(self, config: DecoderConfig) -> Iterator[str]:
    """Names in the file, in layer order (one name if not stacked)."""
    layers = range(config.num_hidden_layers if self.stacked else 1)
    return (self.name.format(layer=layer) for layer in layers)

  def file_shape(self, config: DecoderConfig) -> tuple[int, ...]:
    sizes = _sizes(config)
    return tuple(math.prod(sizes[axis] for axis in axes) for axes in self.file)

  def split_shape(self, config: DecoderConfig) -> tuple[int, ...]:
    """File shape with product axes split: a view of the file's bytes."""
    sizes = _sizes(config)
    return tuple(sizes[axis] for axis in "".join(self.file))

  def param_shape(self, config: DecoderConfig) -> tuple[int, ...]:
    """Shape in the parameter tree, of one layer if stacked."""
    sizes = _sizes(config)
    return tuple(sizes[axis] for axis in self.param)


def _sizes(config: DecoderConfig) -> dict[str, int]:
  return {
    "V": config.vocab_size,
    "D": config.hidden_size,
    "H": config.num_attention_heads,
    "K": config.num_key_value_heads,
    "d": config.head_dim,
    "F": config.intermediate_size,
  }


def _layer(name: str, path: str, file: str, param: str) -> Layout:
  return Layout(
    f"model.layers.{{layer}}.{name}.weight",
    ("layers", *path.split("/")),
    tuple(file.split()),
    param,
  )


_LAYOUTS = (
  Layout(EMBEDDING, ("embed", "embedding"), ("V", "D"), "VD"),
  _layer("input_layernorm", "attention_norm/scale", "D", "D"),
  _layer("self_attn.q_proj", "attention/query/kernel", "Hd D", "DHd"),
  _layer("self_attn.k_proj", "attention/key/kernel", "Kd D", "DKd"),
  _layer("self_attn.v_proj", "attention/value/kernel", "Kd D", "DKd"),
  _layer("self_attn.q_norm", "attention/query_norm/scale", "d", "d"),
  _layer("self_attn.k_norm", "attention/key_norm/scale", "d", "d"),
  _layer("self_attn.o_proj", "attention/output/kernel", "D Hd", "HdD"),
  _layer("post_attention_layernorm", "mlp_norm/scale", "D", "D"),
  _layer("mlp.gate_proj", "mlp/gate/kernel", "F D", "DF"),
  _layer("mlp.up_proj", "mlp/up/kernel", "F D", "DF"),
  _layer("mlp.down_proj", "mlp/down/kernel", "D F", "FD"),
  Layout("model.norm.weight", ("final_norm", "scale"), ("D",), "D"),
  Layout(LM_HEAD, ("lm_head", "kernel"), ("V", "D"), "DV"),
)


def layouts(config: DecoderConfig) -> Iterator[Layout]:
  """The tensors of a model: all of the table, less the LM head where embeddings are tied."""
  return (
    layout for layout in _LAYOUTS if not (layout.name == LM_HEAD and config.tie_word_embeddings)
  )


def file_names(config: DecoderConfig) -> Iterator[str]:
  """Name of every tensor that a checkpoint of `config` must hold."""
  return (name for layout in layouts(config) for name in layout.names(config))


def file_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
  """Name -> shape of every tensor that a checkpoint of `config` must hold."""
  return {
    name: layout.file_shape(config) for layout in layouts(config) for name in layout.names(config)
  }
