"""The harness's model arguments and the rule for contexts; neither needs the harness."""

import json
import shutil

import pytest

from tests.errors import user_error
import tttjax as tt
from tttjax.lm_eval.context_split import ContextSplit
from tttjax.lm_eval.model_arguments import parsed

TEXT = "one two three\n\nWhich? four"
ENDS = [3, 7, 13, 14, 15, 20, 21, 26]  # of one, two, three, \n, \n, Which, ?, four


@pytest.mark.parametrize(
  "value, tokens",
  [
    ("whole", 7),  # one token is left to predict from
    (11, 5),  # 'Which? four' is the question
    (9, 5),  # within 'Which': at the boundary before it
    (1000, 0),
    ("Which", 5),
    (r"\n\n", 3),
    ("\n\n", 3),
    ("hree", 2),  # it begins within a token
    ("absent", 0),
  ],
)
def test_the_context_ends_at_the_boundary_before_the_question(value, tokens):
  assert ContextSplit.of(value).tokens(TEXT, ENDS) == tokens


@pytest.mark.parametrize("value", [0, -3, 1.5, True, ""])
def test_no_rule_for_contexts(value):
  with user_error("context_split", "whole"):
    ContextSplit.of(value)


def test_a_text_of_one_token_has_no_context():
  assert ContextSplit().tokens("a", [1]) == 0 and ContextSplit().tokens("", []) == 0


@pytest.mark.parametrize(
  "arguments, words",
  [
    ({"pretrained": None}, ["pretrained is missing", "smollm2"]),
    ({"pretrained": "/nowhere"}, ["/nowhere"]),
    ({"stratgy": "qttt"}, ["stratgy", "did you mean strategy"]),
    ({"strategy": "qtt"}, ["strategy", "did you mean 'qttt'"]),
    ({"strategy": "qttt(steps=2"}, ["at every comma", "strategy=qttt,steps=32"]),
    ({"strategy": "qttt(steps=2)", "steps": 3}, ["steps is given twice"]),
    ({"strategy": "qttt", "span": 0}, ["span", "at least 1"]),
    ({"strategy": "qttt", "learning_rate": "fast"}, ["learning_rate", "a number"]),
    ({"strategy": "qttt(stretch=9)"}, ["strategy", "stretch", "leave it out"]),
    ({"strategy": "qttt(spans=oracle)"}, ["strategy", "spans", "leave it out"]),
    ({"strategy": "thinking"}, ["strategy=in_context", "thinking_budget"]),
    ({"strategy": "beam"}, ["strategy=beam", "in_context or qttt"]),
    ({"steps": 4}, ["steps=4", "strategy=qttt"]),
    ({"context_split": 0}, ["context_split"]),
    ({"max_length": 1 << 20}, ["max_length", "16384 positions"]),
    ({"yarn": 0.5, "yarn_original": 384}, ["yarn: factor must be at least 1"]),
    ({"yarn": 4.0}, ["yarn: original must be"]),
    ({"max_gen_toks": 0}, ["max_gen_toks"]),
    ({"tensor": 0}, ["tensor"]),
    ({"tensor": 3}, ["needs 3 devices"]),
    ({"dtype": "int8"}, ["dtype=int8", "bfloat16"]),
    ({"seed": -1}, ["seed"]),
    ({"batch_size": "many"}, ["batch_size=many", "auto"]),
    ({"enable_thinking": "yes"}, ["enable_thinking", "True or False"]),
    ({"thinking_budget": 0}, ["thinking_budget"]),
    ({"prefix_token_id": 512}, ["prefix_token_id", "511"]),
  ],
)
def test_a_wrong_argument_is_one_line(arguments, words):
  with user_error(*words):
    parsed(**{"pretrained": "embedded", **arguments})


def test_thoughts_need_an_end(tmp_path):
  """The embedded tokenizer has </think>; one without it needs a text."""
  shutil.copytree(tt.EMBEDDED, tmp_path / "model")
  path = tmp_path / "model/tokenizer.json"
  text = path.read_text(encoding="utf-8")
  assert "</think>" in text
  path.write_text(text.replace("</think>", "</other>"), encoding="utf-8")
  pretrained = str(tmp_path / "model")
  with user_error("enable_thinking", "think_end_token"):
    parsed(pretrained, enable_thinking=True)
  assert parsed(pretrained, enable_thinking=True, think_end_token="So:").think_end == "So:"
  assert parsed("embedded", enable_thinking=True).think_end == "</think>"
  assert parsed("embedded").think_end is None


def test_options_are_given_in_the_strategy_or_by_themselves():
  inside = parsed("embedded", strategy="qttt(steps=3, learning_rate=0.01)", span=16)
  beside = parsed("embedded", strategy="qttt", steps=3, learning_rate=0.01, span=16)
  assert inside.ttt == beside.ttt == tt.TTTConfig(steps=3, span=16, learning_rate=0.01)
  assert parsed("embedded", strategy="qttt").ttt == tt.TTTConfig()


@pytest.mark.parametrize(
  "given, rows", [({}, 16), ({"batch_size": "4"}, 4), ({"batch_size": "auto:2"}, 16)]
)
def test_batch_sizes(given, rows):
  assert parsed("embedded", device="cuda:0", **given).rows == rows


def test_positions_are_the_configs(tmp_path):
  shutil.copytree(tt.EMBEDDED, tmp_path / "model")
  path = tmp_path / "model/config.json"
  config = json.loads(path.read_text(encoding="utf-8")) | {"max_position_embeddings": 300}
  path.write_text(json.dumps(config), encoding="utf-8")
  assert parsed(str(tmp_path / "model")).max_length == 300
