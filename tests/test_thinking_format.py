"""Thoughts of models with and without a token that ends them: the marker, the formats, the runs."""

import itertools
import re
import shutil

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from tests import tiny_run
from tests.reference import random_tokens
import tttjax as tt
from tttjax.embedded.vocabulary import build_tokenizer
from tttjax.experiment import config as run_config
from tttjax.experiment.work_units import Place, Work
from tttjax.session import Session
from tttjax.tasks import prompt
from tttjax.tasks.thinking_format import FREE_TEXT, SECTION, format_of

_KEY = jax.random.key(0)
_NEW = 24


def tokenizer_of(*pieces, special=()):
  """A tokenizer whose token i has the text pieces[i]; the special ones have none."""
  assert len(set(pieces)) == len(pieces)
  words = {piece: i for i, piece in enumerate(pieces)}
  tokenizer = Tokenizer(models.WordLevel(words, unk_token=pieces[0]))
  tokenizer.decoder = decoders.Fuse()
  tokenizer.add_special_tokens(list(special))
  return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def closing_index(marker, ids):
  """Index of the token at which a text that is read token by token first holds the marker."""
  matched = 0
  for index, token in enumerate(ids):
    matched = marker.table[token, matched]
    if matched == len(marker.text):
      return index
  return None


# The marker. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a", "ab", "aab", "abaab", "aaa", "abab", "b\nb"])
def test_a_marker_closes_where_the_text_first_holds_it(text):
  """Every split into tokens, overlapping beginnings, more text in the token that completes it."""
  pieces = ["a", "b", "c", "aa", "ab", "ba", "aba", "bca", "aab", "\nb", "b\n", "abaabc", ""]
  tokenizer = tokenizer_of(*pieces)
  marker = tt.text_marker(text, tokenizer, len(pieces) + 3)
  rng = np.random.default_rng(0)
  closed = 0
  for ids in rng.integers(0, len(pieces), (400, 12)):
    written = itertools.accumulate(pieces[token] for token in ids)
    expected = next((i for i, so_far in enumerate(written) if text in so_far), None)
    assert closing_index(marker, ids) == expected
    closed += expected is not None
  assert 50 < closed
  # Ids that the model has beyond the tokenizer's leave it where it was.
  np.testing.assert_array_equal(marker.table[len(pieces) :], [list(range(len(text)))] * 3)


def test_special_tokens_have_no_text_for_a_marker():
  tokenizer = tokenizer_of("Fi", "nal", ":", special=("<|end|>",))
  marker = tt.text_marker("Final:", tokenizer, 4)
  assert closing_index(marker, [0, 3, 1, 2]) == 3


def test_a_marker_may_begin_with_a_space_that_a_first_token_loses():
  """As SentencePiece's decoders do: the piece is read as it continues other text."""
  words = {"a": 0, "▁Final": 1, ":": 2, "▁": 3}
  tokenizer = Tokenizer(models.WordLevel(words))
  tokenizer.decoder = decoders.Metaspace()
  fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
  assert fast.decode([1]) == "Final"
  assert closing_index(tt.text_marker(" Final:", fast, 4), [0, 1, 2]) == 2


@pytest.mark.parametrize("text", ["", "x" * 65])
def test_a_marker_has_a_sensible_length(text):
  with pytest.raises(tt.UserError, match="length of the end marker"):
    tt.text_marker(text, tokenizer_of("x"), 1)


# Generation. --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case(small):
  """(cache, prompt [2, 9], a free greedy run of _NEW tokens)."""
  _, model, params = small
  rng = np.random.default_rng(21)
  cache, _ = tt.prefill(model, params, random_tokens(rng, 2, 60))
  asked = random_tokens(rng, 2, 9)
  free = tt.generate(
    model, params, None, cache, asked, _KEY, tt.SamplingConfig(max_new_tokens=_NEW)
  )
  return cache, asked, np.asarray(free.tokens)


def spelling(free, row=0, at=4):
  """A tokenizer in which the free run's tokens `at` and `at` + 1 of a row spell `Final:`."""
  first, second = free[row, at], free[row, at + 1]
  assert first != second
  pieces = [f"<{i}>" for i in range(97)]
  pieces[first], pieces[second] = "so Fi", "nal: y"
  return tokenizer_of(*pieces)


def forced_ids(tokenizer, free):
  """Ids that spell the marker once, ending in one that the free run does not produce."""
  absent = int(np.setdiff1d(np.arange(97), free)[0])
  pieces = tokenizer.convert_ids_to_tokens(range(97))
  return (pieces.index("so Fi"), pieces.index("nal: y"), absent)


def test_text_ends_a_thought_wherever_its_tokens_are_split(small, case):
  _, model, params = small
  cache, asked, free = case
  tokenizer = spelling(free)
  marker = tt.text_marker("Final:", tokenizer, 97)
  sampling = tt.SamplingConfig(
    max_new_tokens=_NEW,
    thinking_budget=8,
    end_think=marker,
    forced_stop_ids=forced_ids(tokenizer, free),
  )
  result = tt.generate(model, params, None, cache, asked, _KEY, sampling)
  closed = closing_index(marker, free[0])
  assert result.thinking_lengths[0] == closed + 1 == 6
  np.testing.assert_array_equal(result.tokens[0], free[0])
  assert closing_index(marker, free[1, :8]) is None  # so the other row is forced
  assert result.thinking_lengths[1] == 11
  assert result.tokens[1, :11].tolist() == [*free[1, :8], *sampling.forced_stop_ids]
  beam = tt.beam_search(model, params, None, cache, asked, sampling, 1)
  np.testing.assert_array_equal(beam.thinking_lengths, result.thinking_lengths)
  np.testing.assert_array_equal(beam.tokens, result.tokens)


def test_what_cannot_close_a_thought_is_refused(small, case):
  _, model, params = small
  cache, asked, free = case
  tokenizer = spelling(free)
  marker = tt.text_marker("Final:", tokenizer, 97)
  build = lambda ids, end=marker: tt.SamplingConfig(
    thinking_budget=3, end_think=end, forced_stop_ids=ids
  )
  ids = forced_ids(tokenizer, free)
  with pytest.raises(tt.UserError, match="must hold end_think 'Final:' once, not 0 times"):
    build(ids[:1])
  with pytest.raises(tt.UserError, match="must hold end_think 'Final:' once, not 2 times"):
    build(ids * 2)
  other = tt.text_marker("Final:", tokenizer, 100)
  with pytest.raises(tt.UserError, match="made for 100 token ids, the model has 97"):
    tt.generate(model, params, None, cache, asked, _KEY, build(ids, other))


# Formats. -----------------------------------------------------------------------------------------


def test_the_format_is_the_models_own():
  assert format_of(build_tokenizer()) == SECTION
  assert format_of(tokenizer_of("a")) == FREE_TEXT


def test_each_text_can_be_given():
  plain = tokenizer_of("a")
  given = format_of(plain, "Answer:", "\nSo:\nAnswer:", "Hm.")
  assert (given.end, given.forced_stop, given.opener) == ("Answer:", "\nSo:\nAnswer:", "Hm.")
  assert format_of(plain, end="Answer:").forced_stop == "\nAnswer:"
  assert format_of(plain, forced_stop="\n\nFinal: ").end == "Final:"
  assert format_of(build_tokenizer(), opener="Hm.").end == "</think>"


@pytest.mark.parametrize("forced", ["Stop.", "</think></think>", "Final:"])
def test_a_forced_stop_that_does_not_end_the_thought_is_refused(forced):
  with pytest.raises(tt.UserError, match="must hold the end marker '</think>' once"):
    format_of(build_tokenizer(), forced_stop=forced)


def test_only_a_tokenizer_with_its_tokens_opens_a_section():
  template = (
    "{{- '<|im_start|>user\\n' + messages[-1].content + '<|im_end|>\\n<|im_start|>assistant\\n' }}"
  )
  plain, thinks = tokenizer_of("a"), tokenizer_of("a")
  thinks.add_tokens(["<think>", "</think>"])
  for tokenizer, opened in ((plain, ""), (thinks, "<think>\n")):
    for tokenizer.chat_template in (template, None):
      rendered = prompt.render(tokenizer, "log\n", "a?")
      assert rendered.thinking_text == rendered.text + opened


# Runs. --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  path = tmp_path_factory.mktemp("model")
  tiny_run.write(path)
  return str(path)


def prepared(model, **overrides):
  """(plan, unit, session) of a run of `thinking` on the tiny model."""
  plan = run_config.check(tiny_run.config(model, strategies=("thinking",), **overrides))
  work = Work(plan, model)
  unit = work.unit(Place(next(iter(plan.tasks)), 128, 0, 0))
  return plan, unit, Session.open(plan.models[model])


def test_a_run_takes_the_end_as_text_and_the_answer_is_what_follows_it(model):
  """With a text for an end marker also on a model that has `</think>`."""
  plan, unit, session = prepared(
    model, thinking__end="TX", thinking__temperature=1.0, thinking__top_k=0, thinking__top_p=1.0
  )
  result = plan.strategies["thinking"](
    session, unit.case, unit.allowances["thinking"], jax.random.key(3)
  )
  assert len(result.predictions) == 2
  for prediction in result.predictions:
    (output,) = prediction.outputs
    thought, marker, answer = output.text.partition("TX")
    assert output.answer == (answer if marker else thought).strip()
    forced = output.thinking_tokens == unit.allowances["thinking"].thinking_tokens
    assert output.ending.thought == ("forced" if forced else "closed" if marker else "open")


def test_a_thought_that_stops_without_the_marker_is_the_answer(model):
  _, unit, session = prepared(model, thinking__end="[ANSWER]")
  sampling = unit.case.decoding.thinking
  sampling = tt.SamplingConfig(
    max_new_tokens=64,
    thinking_budget=40,
    end_think=sampling.end_think,
    forced_stop_ids=sampling.forced_stop_ids,
    stop_ids=tuple(range(16)),
    temperature=1.0,
  )
  context, _ = session.read(unit.case.tokens, unit.case.capacity)
  outputs, _ = session.generate(
    context, None, unit.case.thinking_prompts, sampling, jax.random.key(1), samples=8
  )
  stopped = [o for prompts in outputs for o in prompts if o.thinking_tokens == len(o.ids)]
  assert stopped
  for output in stopped:
    assert output.answer == output.text.strip() and output.ending.answer == "stop"
    assert output.ending.thought == "open"


def test_the_opener_begins_the_thought(model):
  _, unit, _ = prepared(model, thinking__opener="OPEN")
  _, plain, _ = prepared(model)
  opened = build_tokenizer()("OPEN", add_special_tokens=False)["input_ids"]
  for with_opener, without in zip(unit.case.thinking_prompts, plain.case.thinking_prompts):
    assert with_opener == without + tuple(opened)
  assert unit.case.prompts == plain.case.prompts


def test_a_run_refuses_a_forced_stop_without_the_marker(model):
  plan = run_config.check(tiny_run.config(model, thinking__forced_stop="Stop."))
  with pytest.raises(tt.UserError, match="^config.thinking.forced_stop 'Stop.' must hold the end"):
    Work(plan, model)


def test_a_broken_tokenizer_is_named_as_the_checkpoints(model, tmp_path):
  directory = tmp_path / "model"
  shutil.copytree(model, directory)
  plan = run_config.check(tiny_run.config(directory))
  (directory / "tokenizer.json").write_text("{")
  with pytest.raises(
    tt.UserError, match=f"^{re.escape(str(directory))}: cannot load the tokenizer"
  ):
    Work(plan, str(directory))
