"""What is measured on which machine."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Suite:
  """One machine's measurements.

  Attributes:
    layers, hidden, heads, kv_heads, head_dim, mlp, vocab: of the random model.
    dtype: of weights and cache.
    lengths: context tokens, ascending.
    span: k of a step.
    steps: N of the whole loop.
    new_tokens: of a decoding run.
    samples: on one shared context.
    contexts: batched together.
    rounds: counted runs of every contender.
    longest_reread: longest context at which the loop that reads all of it in each step is tried.
  """

  layers: int
  hidden: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp: int
  vocab: int
  dtype: str
  lengths: tuple[int, ...]
  span: int = 128
  steps: int = 8
  new_tokens: int = 32
  samples: int = 8
  contexts: int = 4
  rounds: int = 5
  longest_reread: int = 4096


# Qwen3-0.6B's shapes with fewer layers and a smaller vocabulary.
_CPU = Suite(4, 1024, 16, 8, 128, 3072, 32_000, "float32", (1024, 4096, 16_384, 32_768))
# Qwen3-4B's.
_CARD = Suite(
  36, 2560, 32, 8, 128, 9728, 151_936, "bfloat16", (1024, 8192, 32_768, 131_072), steps=32
)

SUITES = {"cpu": _CPU, "gpu": _CARD, "tpu": _CARD}


def suite(name: str, quick: bool) -> Suite:
  """The suite, or a part of it that ends within minutes."""
  whole = SUITES[name]
  if not quick:
    return whole
  lengths = (1024, 4096) if name == "cpu" else (1024, 32_768)
  fewer = {"rounds": 3, "steps": 4, "new_tokens": 16, "longest_reread": 1024}
  return dataclasses.replace(whole, lengths=lengths, **fewer)
