"""Builds the tokenizer of the embedded checkpoint: 512 ids, any UTF-8 round-trips.

Every piece that the split pattern yields is either in the vocabulary as a whole or falls back to
its bytes. There are no merges to train, so the file is a function of this module alone.

A newline is always a piece of its own: text that ends with a newline has the same tokens whatever
follows it.
"""

import string

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from tttjax.lazy_imports import transformers_library

VOCAB_SIZE = 512
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINKING_TOKENS = ("<think>", "</think>")

_HEADERS = ("[SYSTEM]", "[TASK]", "[CONTEXT]", "[QUESTION]")
_LOG_WORDS = ("TX", " TX", "OPEN", "CALC_ERROR", "NEGATIVE_BAL", "LOST_UPDATE", "DUPLICATE_TXN")
_CHAT_WORDS = ("system", "user", "assistant")
_TASK_WORDS = (
  " Bank",
  " auditor",
  " Reply",
  " with",
  " the",
  " answer",
  " only",
  " balance",
  " of",
  " amount",
  " anomaly",
  " as",
  " type",
  " id",
  "type",
  " Final",
  "Thinking",
  " budget",
  " used",
  " up",
)
# Frequent words and indentation, for text that is not a bank log; the rest is spelled in bytes.
_COMMON_WORDS = (
  " and",
  " to",
  " in",
  " is",
  " that",
  " for",
  " it",
  " was",
  " on",
  " are",
  " be",
  " this",
  " by",
  " from",
  " or",
  " an",
  " at",
  " not",
  " which",
  " you",
  " we",
  " have",
  " has",
  " had",
  " but",
  " they",
  " his",
  " her",
  " he",
  " she",
  " one",
  " all",
  " will",
  " can",
  " if",
  " when",
  " who",
  " what",
  " were",
  " been",
  " their",
  " more",
  " no",
  " so",
  " said",
  " there",
  " its",
  " return",
  " self",
  " def",
  " import",
  " class",
  " None",
  " True",
  " False",
  "self",
  "return",
  "import",
  "def",
  "class",
  "The",
  "A",
  "  ",
  "    ",
  "      ",
  "        ",
)

_SPLIT = r"\[(?:SYSTEM|TASK|CONTEXT|QUESTION)\]|\n|[0-9]{1,2}| ?[A-Za-z_]+| +(?= )|."

# Qwen3's conversation format: thoughts of earlier turns are dropped, and enable_thinking=False
# answers for the model that it has thought nothing.
CHAT_TEMPLATE = """\
{%- for message in messages %}
{%- set text = message.content %}
{%- if message.role == 'assistant' and '</think>' in text and not loop.last %}
{%- set text = text.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' + text + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""


def _byte_level(text: str) -> str:
  """Spells text in the printable alphabet that the byte-level pre-tokenizer maps bytes to."""
  return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[
    0
  ][0]


def _vocabulary() -> dict[str, int]:
  """Token (byte-level spelling) to id; the five special tokens have the ids 0 to 4."""
  numbers = [f"{i:02d}" for i in range(100)]
  letters = [f" {letter}" for letter in string.ascii_uppercase]
  words = [*numbers, *letters, *_HEADERS, *_LOG_WORDS, *_CHAT_WORDS, *_TASK_WORDS, *_COMMON_WORDS]
  tokens = [*SPECIAL_TOKENS, *THINKING_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
  tokens += [_byte_level(word) for word in words]
  tokens = list(dict.fromkeys(tokens))
  if len(tokens) > VOCAB_SIZE:
    raise ValueError(f"{len(tokens)} tokens do not fit in a vocabulary of {VOCAB_SIZE}")
  tokens += [f"<|reserved_{i}|>" for i in range(VOCAB_SIZE - len(tokens))]
  return {token: i for i, token in enumerate(tokens)}


def build_tokenizer():
  """Returns transformers' fast tokenizer.

  Its `save_pretrained` writes tokenizer.json and tokenizer_config.json.
  """
  # ignore_merges: a piece that is in the vocabulary is one token, any other is split into bytes.
  tokenizer = Tokenizer(models.BPE(vocab=_vocabulary(), merges=[], ignore_merges=True))
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
  # As in Qwen3: decoding without special tokens keeps the thinking section visible.
  tokenizer.add_tokens([AddedToken(t, special=False) for t in THINKING_TOKENS])
  return transformers_library().PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    eos_token="<|im_end|>",
    pad_token="<|endoftext|>",
    chat_template=CHAT_TEMPLATE,
    model_max_length=16384,
    clean_up_tokenization_spaces=False,
  )
