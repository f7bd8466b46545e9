"""The tokenizer in a GGUF file's metadata: byte-level BPE, the kind of the implemented families.

transformers builds it from GGUF files too, but needs PyTorch for that, and splits text as GPT-2
does where the file names a way that it does not know.
"""

import functools
from typing import Any

from tokenizers import (
  AddedToken,
  Regex,
  Tokenizer,
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
)

from tttjax.checkpoint.fields import Fields, shown
from tttjax.checkpoint.gguf_header import FETCH, Header
from tttjax.errors import UserError
from tttjax.lazy_imports import transformers_library

_PREFIX = "tokenizer.ggml."
# Types of tokens in the metadata: matched whole in the text; the first kind is special.
_CONTROL, _USER_DEFINED = 3, 4
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split(numbers: str) -> pre_tokenizers.PreTokenizer:
  """How Llama 3 and Qwen split text; `numbers` matches the digits that stay together."""
  pattern = "|".join((_CONTRACTIONS, _WORDS, numbers, _REST))
  return pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )


def _single_digits() -> pre_tokenizers.PreTokenizer:
  """SmolLM's: every digit alone, the rest as GPT-2."""
  return pre_tokenizers.Sequence(
    [
      pre_tokenizers.Digits(individual_digits=True),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ]
  )


# By `tokenizer.ggml.pre`.
_SPLITS = {
  "llama-bpe": functools.partial(_split, r"\p{N}{1,3}"),
  "qwen2": functools.partial(_split, r"\p{N}"),
  "smollm": _single_digits,
}


def build_gguf_tokenizer(header: Header) -> Any:
  """transformers' fast tokenizer for the vocabulary, merges and chat template in the metadata.

  Raises:
    UserError: the file has no tokenizer, or one of a kind that is not implemented.
  """
  metadata = header.metadata
  fields = Fields(header.path, metadata, keys={})
  tokens, merges, split = _checked(header)
  types = fields.get(f"{_PREFIX}token_type", list, "a list", [])
  template = fields.get("tokenizer.chat_template", str, "a text", None)
  kind = metadata[f"{_PREFIX}pre"]
  vocab = {token: index for index, token in enumerate(tokens)}
  pairs = [tuple(merge.split(" ")) for merge in merges]
  try:
    bpe = Tokenizer(models.BPE(vocab, pairs, ignore_merges=kind == "llama-bpe"))
  except Exception as error:  # The library raises plain Exception.
    raise UserError(f"{header.path}: cannot build the tokenizer ({error}); {FETCH}") from None
  if kind == "qwen2":
    bpe.normalizer = normalizers.NFC()
  bpe.pre_tokenizer = split()
  bpe.decoder = decoders.ByteLevel()
  of_type = lambda wanted: [token for token, kind in zip(tokens, types) if kind == wanted]
  bpe.add_special_tokens([AddedToken(t, normalized=False) for t in of_type(_CONTROL)])
  bpe.add_tokens([AddedToken(t, normalized=False) for t in of_type(_USER_DEFINED)])
  special = {
    f"{name}_token": tokens[index] for name, index in special_ids(header, len(tokens)).items()
  }
  # What llama.cpp does with a byte-level vocabulary that says nothing is to add no BOS.
  if metadata.get(f"{_PREFIX}add_bos_token", False) and "bos_token" in special:
    bos = special["bos_token"]
    bpe.post_processor = processors.TemplateProcessing(
      single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokens.index(bos))]
    )
  return transformers_library().PreTrainedTokenizerFast(
    tokenizer_object=bpe,
    chat_template=template,
    clean_up_tokenization_spaces=False,
    **special,
  )


def special_ids(header: Header, vocab_size: int) -> dict[str, int]:
  """Ids of 'bos', 'eos', 'pad' and 'unk', as far as the file has them.

  Raises:
    UserError: an id is outside the vocabulary.
  """
  keys = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
  ids = {name: _id(header, f"{key}_token_id", vocab_size) for name, key in keys.items()}
  return {name: index for name, index in ids.items() if index is not None}


def declared_stop_ids(header: Header, vocab_size: int) -> frozenset[int]:
  """Ids of the ends of the sequence, of a turn and of a message, as far as the file has them."""
  keys = ("eos_token_id", "eot_token_id", "eom_token_id")
  return frozenset(_id(header, key, vocab_size) for key in keys) - {None}


def _id(header: Header, key: str, vocab_size: int) -> int | None:
  fields = Fields(header.path, header.metadata, keys={})
  index = fields.get(_PREFIX + key, int, "an id", None)
  if index is not None and not 0 <= index < vocab_size:
    raise fields.error(
      _PREFIX + key, f"is {index}, which is not an id of the vocabulary of {vocab_size}"
    )
  return index


def _checked(header: Header) -> tuple[list[str], list[str], Any]:
  """Tokens, merges and the way to split text."""
  fields = Fields(header.path, header.metadata, keys={})
  other = "use a GGUF file of Llama 3, SmolLM2, Qwen2.5 or Qwen3, or the safetensors directory"
  for name, implemented in (("model", ("gpt2",)), ("pre", tuple(_SPLITS))):
    value = header.metadata.get(_PREFIX + name)
    if value not in implemented:
      raise fields.error(
        _PREFIX + name,
        f"is {shown(value)}, implemented tokenizers have {' or '.join(map(repr, implemented))};"
        f" {other}",
      )
  tokens, merges = (fields.get(_PREFIX + name, list, "a list", []) for name in ("tokens", "merges"))
  for name, values in (("tokens", tokens), ("merges", merges)):
    if not all(isinstance(value, str) for value in values):
      raise fields.error(_PREFIX + name, f"must be a list of texts; {FETCH}")
  if not tokens or len(set(tokens)) < len(tokens):
    raise UserError(f"{header.path}: the tokenizer's vocabulary is empty or has a token twice")
  return tokens, merges, _SPLITS[header.metadata[f"{_PREFIX}pre"]]
