"""The embedded tokenizer: lossless, stable at newlines, one layout with the chat template."""

import os
import pathlib
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from tttjax.checkpoint.paths import checkpoint_path
from tttjax.checkpoint.tokenizers import load_tokenizer
from tttjax.embedded.vocabulary import SPECIAL_TOKENS, THINKING_TOKENS, VOCAB_SIZE, build_tokenizer
from tttjax.tasks import BankLog, prompt


@pytest.fixture(scope="module")
def tokenizer():
  return build_tokenizer()


def ids(tokenizer, text):
  return tokenizer(text, add_special_tokens=False)["input_ids"]


TEXTS = [
  "TX4821:35 A12=1240>1205 B07=0310>0345\n",
  "def f(x):\n    return 0.5 * x  # half\r\n\t",
  "Größe 漢字 🎉 e\u0301 \u200b\x00\x7f",
  "  two  spaces   three \n\n\n end ",
  "[TASK] [task] 123456789 1.5e-3 <think> </think> <|im_end|>",
]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_round_trips(tokenizer, text):
  assert tokenizer.decode(ids(tokenizer, text)) == text


def test_every_single_byte_character_round_trips(tokenizer):
  for code in [*range(0x250), 0xFFFD, 0x10FFFF]:
    assert tokenizer.decode(ids(tokenizer, chr(code))) == chr(code)


def test_vocabulary_has_512_ids_and_special_tokens_are_one_token_each(tokenizer):
  assert len(tokenizer) == VOCAB_SIZE
  for token in (*SPECIAL_TOKENS, *THINKING_TOKENS):
    assert len(ids(tokenizer, token)) == 1
  assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"


def test_log_lines_are_split_into_letters_and_two_digit_numbers(tokenizer):
  tokens = [tokenizer.decode([i]) for i in ids(tokenizer, TEXTS[0])]
  assert tokens == [
    "TX",
    "48",
    "21",
    ":",
    "35",
    " A",
    "12",
    "=",
    "12",
    "40",
    ">",
    "12",
    "05",
    " B",
    "07",
    "=",
    "03",
    "10",
    ">",
    "03",
    "45",
    "\n",
  ]


@pytest.mark.parametrize("left", TEXTS)
@pytest.mark.parametrize("right", TEXTS)
def test_text_ending_in_a_newline_tokenizes_the_same_whatever_follows(tokenizer, left, right):
  left = left + "\n"
  assert ids(tokenizer, left + right) == ids(tokenizer, left) + ids(tokenizer, right)


def test_context_and_suffix_tokenize_like_their_concatenation(tokenizer):
  example = BankLog().at(0, 300, tokenizer, True)
  for question in example.questions:
    for suffix in (question.text, question.thinking_text):
      assert ids(tokenizer, example.context + suffix) == ids(tokenizer, example.context) + ids(
        tokenizer, suffix
      )


def test_chat_template_opens_or_skips_the_thinking_section_as_qwen3_does(tokenizer):
  messages = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "<think>\nb\n</think>\n\nc"},
    {"role": "user", "content": "d"},
  ]
  render = lambda **kwargs: tokenizer.apply_chat_template(
    messages, tokenize=False, add_generation_prompt=True, **kwargs
  )
  history = (
    "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n"
    "<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n"
  )
  assert render() == render(enable_thinking=True) == history
  assert render(enable_thinking=False) == history + "<think>\n\n</think>\n\n"
  rendered = prompt.render(tokenizer, "log\n", "balance of A12?")
  assert rendered.context == "<|im_start|>user\nlog\n"
  assert rendered.text == rendered.thinking_text + "\n</think>\n\n"


def test_auto_tokenizer_loads_the_saved_files_without_remote_code(tokenizer, tmp_path):
  from tttjax.checkpoint.tokenizers import write_tokenizer

  write_tokenizer(tmp_path, tokenizer)
  loaded = AutoTokenizer.from_pretrained(tmp_path)
  for text in TEXTS:
    assert ids(loaded, text) == ids(tokenizer, text)
  assert loaded.chat_template == tokenizer.chat_template
  assert loaded.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize(
  "code, advice",
  [
    ("import transformers", True),
    ("import tttjax; tttjax.load_tokenizer(tttjax.EMBEDDED)", False),
    ("from tttjax.embedded import vocabulary; vocabulary.build_tokenizer()", False),
  ],
)
def test_no_advice_to_install_torch(code, advice):
  environment = dict(os.environ)
  environment.pop("TRANSFORMERS_NO_ADVISORY_WARNINGS", None)
  done = subprocess.run(
    [sys.executable, "-c", f"import sys; sys.modules['torch'] = None\n{code}"],
    cwd=pathlib.Path(__file__).parent.parent,
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  )
  assert ("PyTorch was not found" in done.stderr) == advice, done.stderr


def test_a_tokenizer_of_no_model_is_what_auto_tokenizer_makes_of_it():
  ours = load_tokenizer("embedded")
  theirs = AutoTokenizer.from_pretrained(checkpoint_path("embedded"))
  assert type(ours) is type(theirs)
  assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
  assert ours.chat_template == theirs.chat_template
  assert ours.special_tokens_map == theirs.special_tokens_map
  assert ours.model_max_length == theirs.model_max_length


def test_the_embedded_tokenizer_does_without_torch():
  """torch is there for the tests; importing it takes a second of every start."""
  code = "import sys, tttjax; tttjax.load_tokenizer('embedded'); print('torch' in sys.modules)"
  run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert run.stdout == "False\n"
