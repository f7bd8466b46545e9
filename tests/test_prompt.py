"""Prompts are cut where no token ends up different, for every kind of chat template."""

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.errors import user_error
from tttjax.embedded.vocabulary import CHAT_TEMPLATE
from tttjax.errors import UserError
from tttjax.tasks import prompt
from tttjax.tasks.synthetic.bank_log import BankLog
from tttjax.tasks.synthetic.code_bugs import CodeBugs
from tttjax.tasks.synthetic.needles import Needles
from tttjax.tasks.synthetic.transaction_log import TransactionLog

_TURN = "{{- '<|im_start|>user\\n' + messages[-1].content + '<|im_end|>\\n' }}"
_ASK = "{{- '<|im_start|>assistant\\n' }}"
TEMPLATES = {
  "qwen3": CHAT_TEMPLATE,
  "always thinks": _TURN + _ASK + "{{- '<think>\\n' }}",
  "never thinks": _TURN + _ASK,
  "system message": "{{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}" + _TURN + _ASK,
  "none": None,
}
# How families of models split text before they merge bytes.
SPLITS = {
  "qwen": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
  "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
  "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
TASKS = (BankLog("anomaly"), BankLog(), TransactionLog(), CodeBugs(), Needles(), Needles("kv"))


def build(split, template):
  """A byte-level BPE tokenizer that has merged whatever follows a newline where it may."""
  tokenizer = Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(Regex(split), behavior="isolated"),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  tokenizer.decoder = decoders.ByteLevel()
  texts = ["0345\n[QUESTION] x)\n[QUESTION] y:\n\n[QUESTION] TX1\n [ANSWER]\n<think>\n"] * 50
  tokenizer.train_from_iterator(
    texts,
    trainers.BpeTrainer(
      vocab_size=400,
      show_progress=False,
      special_tokens=["<|im_start|>", "<|im_end|>"],
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ),
  )
  fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
  fast.chat_template = template
  return fast


def ids(tokenizer, text):
  return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_tokens_of_both_parts_are_the_tokens_of_the_whole(split, template):
  tokenizer = build(SPLITS[split], TEMPLATES[template])
  for task in TASKS:
    example = task.at(0, 2000, tokenizer, True)
    context = ids(tokenizer, example.context)
    assert len(context) == example.num_tokens
    for question in example.questions:
      for suffix in (question.text, question.thinking_text):
        assert context + ids(tokenizer, suffix) == ids(tokenizer, example.context + suffix)


@pytest.mark.parametrize("end", ["0345\n", ")\n", "x = f(a)  #\n", "\n\n", "é\n", " \n"])
@pytest.mark.parametrize("split", SPLITS)
def test_the_cut_is_safe_whatever_the_last_line_ends_in(split, end):
  tokenizer = build(SPLITS[split], TEMPLATES["qwen3"])
  prefix, suffix, _ = prompt.render(tokenizer, f"[CONTEXT]\na{end}", "b?")
  assert ids(tokenizer, prefix) + ids(tokenizer, suffix) == ids(tokenizer, prefix + suffix)


def test_without_a_chat_template_the_prompt_is_plain_text():
  tokenizer = build(SPLITS["gpt2"], None)
  parts = prompt.render(tokenizer, "[CONTEXT]\nlog\n", "balance of A12?")
  suffix = "[QUESTION] balance of A12?\n[ANSWER]\n"
  assert parts == ("[CONTEXT]\nlog\n", suffix, suffix)
  tokenizer.add_tokens(["<think>", "</think>"])
  assert prompt.render(tokenizer, "log\n", "a?")[2] == "[QUESTION] a?\n[ANSWER]\n<think>\n"


def test_a_template_that_rewrites_the_message_is_refused():
  tokenizer = build(SPLITS["gpt2"], "{{- messages[-1].content | upper }}")
  with pytest.raises(UserError, match="chat_template changes the text"):
    prompt.render(tokenizer, "log\n", "a?")


@pytest.mark.parametrize(
  "fault",
  [
    "{{- raise_exception('at most 20 characters') }}",
    "{{- messages[-1].content.no_such_method() }}",
    "{{- 1 // 0 }}",
    "{{- messages[7].content.a }}",
    "{%- include 'other' %}",
  ],
)
def test_a_template_that_fails_on_longer_messages_is_refused_by_name(fault):
  only_long = "{%- if messages[-1].content | length > 20 %}" + fault + "{%- endif %}" + _TURN
  tokenizer = build(SPLITS["gpt2"], only_long)
  tokenizer.name_or_path = "/models/toy"
  prompt.render(tokenizer, "log\n", "a?")
  with user_error("/models/toy: chat_template fails on a message of"):
    BankLog().at(0, 300, tokenizer, True)
