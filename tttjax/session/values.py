"""What a session takes and returns: how a context is read, outputs, adaptations, measurements."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from tttjax.attention.caches import PrefixCache
from tttjax.models.decoder import Decoder

Ids = Sequence[int]


@dataclasses.dataclass(frozen=True)
class ReadContext:
  """A context that has been read: what everything after the prefill goes on from.

  Attributes:
    model: that goes on from it; without RoPE where it was read without.
    cache: its frozen keys and values, batch 1.
    tokens: int32 [1, T].
  """

  model: Decoder
  cache: PrefixCache
  tokens: np.ndarray

  @property
  def num_tokens(self) -> int:
    return self.tokens.shape[1]


@dataclasses.dataclass(frozen=True)
class Room:
  """What a batch of prompts is padded to at least, so that another one compiles nothing new.

  Attributes:
    prompts: in one batch; where there are fewer the first is repeated.
    tokens: of a prompt.
  """

  prompts: int = 0
  tokens: int = 0


@dataclasses.dataclass(frozen=True)
class Ending:
  """How one output ended.

  Attributes:
    answer: rows.STOP, by a stop token, or rows.LIMIT, cut off at its longest.
    thought: rows.CLOSED by the model, rows.FORCED when its budget was used up, rows.OPEN where a
      stop token came within it, or None without thinking.
  """

  answer: str
  thought: str | None


@dataclasses.dataclass(frozen=True)
class Output:
  """What the model wrote once.

  Attributes:
    ids: all tokens, thoughts and stop token included.
    text: of all of them, without special tokens.
    answer: the text after the thoughts.
    thinking_tokens: how many of the tokens are thinking, inserted ones included.
    ending: how it ended.
    generated: tokens that were generated to find it, by all beams together; len(ids) without.
  """

  ids: tuple[int, ...]
  text: str
  answer: str
  thinking_tokens: int
  ending: Ending
  generated: int


@dataclasses.dataclass(frozen=True)
class Adaptation:
  """How one adaptation went.

  Attributes:
    loss: of each step, nats per token of its span.
    start: first input token of each span.
    fallback: why the base weights are to be used instead; None where they are not.
  """

  loss: tuple[float, ...]
  start: tuple[int, ...]
  fallback: str | None = None


@dataclasses.dataclass(frozen=True)
class Mechanism:
  """What the attention does while one answer is produced: means over heads and output tokens.

  Attributes:
    mass: share of the attention on the evidence, mean over layers too (paper, tables 2 and 3).
    margin: gamma, the evidence's logsumexp minus that of all other slots (paper, section 2).
    lead: the evidence's logsumexp minus the largest other score.
    mass_by_layer: the mass of each layer.
    during: while the 'reference' answer is predicted, or while the 'output' itself is, thoughts
      included; the two are not to be compared.
    heldout_before, heldout_after: next-token loss, nats per token, of spans that were not trained
      on, before and after adaptation; None without adaptation or room for such spans.
    reference_logprob: of the reference answer after the prompt, nats, summed over its tokens: it
      moves before the answers do. None where an output was measured.
  """

  mass: float
  margin: float
  lead: float
  mass_by_layer: tuple[float, ...]
  during: str
  heldout_before: float | None = None
  heldout_after: float | None = None
  reference_logprob: float | None = None
