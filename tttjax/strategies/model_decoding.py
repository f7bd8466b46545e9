"""How a model's answers and thoughts are decoded: what its tokenizer says about it."""

from collections.abc import Sequence
from typing import Any

from tttjax.checkpoint import Checkpoint
from tttjax.checkpoint.tokenizers import encode
from tttjax.decode.end_markers import TextMarker, text_marker
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.strategies.case import Decoding
from tttjax.tasks.thinking_format import ThinkingFormat


def decoding_of(
  checkpoint: Checkpoint,
  thoughts: ThinkingFormat,
  answer_tokens: Sequence[int],
  answering: dict[str, Any],
  thinking: dict[str, Any],
  mechanism: bool = False,
) -> Decoding:
  """Decoding of a checkpoint's model.

  Args:
    checkpoint: opened.
    thoughts: its format of thoughts.
    answer_tokens: longest answer to each question, thoughts not counted.
    answering, thinking: temperature, top_k and top_p of answers without and with thoughts.
    mechanism: measure what the attention does to the evidence too.
  """
  common = {
    "max_new_tokens": max(answer_tokens),
    "max_answer_tokens": tuple(answer_tokens),
    "stop_ids": checkpoint.stop_ids,
  }
  return Decoding(
    SamplingConfig(**answering, **common),
    SamplingConfig(
      **thinking,
      **common,
      end_think=end_marker(checkpoint, thoughts.end),
      forced_stop_ids=encode(checkpoint.tokenizer, thoughts.forced_stop),
    ),
    checkpoint.config.max_positions,
    mechanism,
  )


def end_marker(checkpoint: Checkpoint, end: str) -> int | TextMarker:
  """The end of a thought: a token of its own where the tokenizer has one, else text."""
  added = checkpoint.tokenizer.get_added_vocab()
  if end in added:
    return added[end]
  return text_marker(end, checkpoint.tokenizer, checkpoint.config.vocab_size)
