"""Where a tensor lives: in the checkpoint file and in the decoder's parameter tree.

One declaration per kind of tensor serves loading, validation and export. Axes are single letters:
V vocabulary, D hidden, H query heads, K KV heads, d head_dim, F MLP. A file axis of two letters
("Hd") is their product, row-major.
"""

from collections.abc import Iterator
import dataclasses
import math

from tttjax.models.decoder_config import DecoderConfig

# Places in the parameter tree of `Decoder` that have a meaning of their own.
EMBEDDING = ("embed", "embedding")
LM_HEAD = ("lm_head", "kernel")
QUERY = ("layers", "attention", "query", "kernel")


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


def _sizes(config: DecoderConfig) -> dict[str, int]:
  return {
    "V": config.vocab_size,
    "D": config.hidden_size,
    "H": config.num_attention_heads,
    "K": config.num_key_value_heads,
    "d": config.head_dim,
    "F": config.intermediate_size,
  }
