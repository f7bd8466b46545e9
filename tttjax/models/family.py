"""What a family of checkpoints says about itself: its config.json and its tensors."""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

from tttjax.models.decoder_config import DecoderConfig
from tttjax.models.tensor_layout import LM_HEAD, Layout


@dataclasses.dataclass(frozen=True, eq=False)
class Family:
  """Checkpoints that `Decoder` computes, and how Hugging Face's layout writes them.

  Attributes:
    model_type: of config.json; names the family in `DecoderConfig.model_type` too.
    architecture: the class name in config.json's `architectures`.
    releases: which published checkpoints these are, to follow "use ...".
    decoder: fields of `DecoderConfig` that the family decides and config.json does not.
    defaults: fields of config.json that published checkpoints may leave out, by the name of their
      `DecoderConfig` field, and what transformers then assumes. A field that decides the
      architecture and is not among them is never assumed. A head_dim of None is hidden_size /
      num_attention_heads.
    only: fields of config.json with the one value that is implemented, which is also what an
      absent field means, and the reason and remedy where a checkpoint has another.
    layouts: every kind of tensor, in the order in which files are written.
  """

  model_type: str
  architecture: str
  releases: str
  decoder: Mapping[str, Any]
  defaults: Mapping[str, Any]
  only: Mapping[str, tuple[Any, str]]
  layouts: tuple[Layout, ...]

  def layouts_of(self, config: DecoderConfig) -> Iterator[Layout]:
    """The tensors of one model: all of them, without the LM head where embeddings are tied."""
    tied = config.tie_word_embeddings
    return (layout for layout in self.layouts if not (tied and layout.path == LM_HEAD))

  def file_names(self, config: DecoderConfig) -> Iterator[str]:
    """Name of every tensor that a checkpoint of `config` must hold."""
    return (name for layout in self.layouts_of(config) for name in layout.names(config))

  def file_shapes(self, config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that a checkpoint of `config` must hold."""
    return {
      name: layout.file_shape(config)
      for layout in self.layouts_of(config)
      for name in layout.names(config)
    }

  def name_of(self, path: tuple[str, ...]) -> str:
    """Name in the file of the tensor at `path` of the parameter tree, which is not stacked."""
    return next(layout.name for layout in self.layouts if layout.path == path)
