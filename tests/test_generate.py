"""Decoding after the frozen context: greedy as transformers, stopping, thinking, shared rows."""

import functools

import jax
import numpy as np
import pytest
import torch

from tests import reference
from tests.errors import user_error
from tests.reference import random_tokens
import tttjax as tt

_KEY = jax.random.key(0)
# One size for all, so that they share one compiled program; rows stop earlier by other limits.
_NEW = 256


@pytest.fixture(scope="module")
def case(small):
  """(tokens [2, 60], lengths, cache, prompt [2, 9], prompt lengths): rows of unequal length."""
  _, model, params = small
  rng = np.random.default_rng(21)
  tokens, lengths = random_tokens(rng, 2, 60), np.asarray([60, 41])
  cache, _ = tt.prefill(model, params, tokens, lengths=lengths)
  return tokens, lengths, cache, random_tokens(rng, 2, 9), np.asarray([5, 9])


@pytest.fixture(scope="module")
def greedy(small, case):
  """A free greedy run of _NEW tokens."""
  return _generate(small, case)


def _generate(small, case, fast=None, **sampling):
  _, model, params = small
  _, _, cache, prompt, prompt_lengths = case
  sampling = tt.SamplingConfig(max_new_tokens=_NEW, **sampling)
  return tt.generate(model, params, fast, cache, prompt, _KEY, sampling, prompt_lengths)


def _row(case, row):
  """Context and prompt of one row as a list of tokens."""
  tokens, lengths, _, prompt, prompt_lengths = case
  return np.concatenate([tokens[row, : lengths[row]], prompt[row, : prompt_lengths[row]]])


def test_greedy_equals_transformers_generate_for_256_tokens(small, case, greedy):
  width = max(len(_row(case, row)) for row in range(2))
  ids, mask = np.zeros((2, width), int), np.zeros((2, width), int)
  for row in range(2):
    ids[row, -len(_row(case, row)) :] = _row(case, row)
    mask[row, -len(_row(case, row)) :] = 1
  expected = small[0].generate(
    torch.tensor(ids),
    attention_mask=torch.tensor(mask),
    do_sample=False,
    max_new_tokens=256,
    pad_token_id=0,
  )[:, width:]
  np.testing.assert_array_equal(greedy.tokens, expected)
  assert greedy.lengths.tolist() == [256, 256]
  assert len(np.unique(greedy.tokens)) > 20  # not one token over and over


def test_cached_decoding_equals_the_uncached_forward(small, case, greedy):
  hf, model, params = small
  whole = np.zeros((2, 400), np.int32)  # right-padded: causal rows do not see it
  for row in range(2):
    tokens = np.concatenate([_row(case, row), greedy.tokens[row]])
    whole[row, : len(tokens)] = tokens
  ours = jax.jit(lambda tokens: model.apply({"params": params}, tokens))(whole)
  for logits in (ours, reference.hf_logits(hf, whole)):
    logprobs = reference.token_logprobs(logits, whole)
    for row in range(2):
      start = len(_row(case, row)) - 1
      chosen = np.asarray(logits)[row, start : start + _NEW].argmax(-1)
      np.testing.assert_array_equal(chosen, greedy.tokens[row])
      np.testing.assert_allclose(
        greedy.logprobs[row], logprobs[row, start : start + _NEW], atol=1e-4
      )


def test_decoding_with_fast_weights_equals_decoding_with_merged_ones(small, case, greedy):
  _, model, params = small
  fast = jax.tree.map(lambda d: 0.1 * jax.random.normal(_KEY, d.shape), tt.init_fast(model, params))
  adapted = _generate(small, case, fast)
  merged = _generate((None, model, tt.merge(model, params, fast)), case)
  np.testing.assert_array_equal(adapted.tokens, merged.tokens)
  np.testing.assert_allclose(adapted.logprobs, merged.logprobs, atol=1e-4)
  assert (np.asarray(adapted.tokens) != np.asarray(greedy.tokens)).any()


def test_a_row_stops_at_the_first_of_several_stop_tokens(small, case, greedy):
  free = np.asarray(greedy.tokens)
  stops = (int(free[0, 6]), int(free[1, 3]), 96)
  result = _generate(small, case, stop_ids=stops)
  for row in range(2):
    end = int(np.isin(free[row], stops).argmax()) + 1
    assert result.lengths[row] == end  # the stop token is part of the output
    assert result.tokens[row, :end].tolist() == free[row, :end].tolist()
    assert (result.tokens[row, end:] == -1).all() and (result.logprobs[row, end:] == 0).all()
    np.testing.assert_allclose(result.logprobs[row, :end], greedy.logprobs[row, :end], atol=1e-5)


def _thinking(free, **changes):
  """A thinking budget of 7 whose closing tokens the free run does not produce early."""
  absent = [i for i in range(97) if i not in free[:, :40]]
  fields = {
    "thinking_budget": 7,
    "end_think": absent[0],
    "forced_stop_ids": (absent[1], absent[2], absent[0]),
  }
  return fields | changes


def _greedy_after(small, prefix, count):
  """transformers' greedy continuation of a list of tokens."""
  ids = torch.tensor(np.asarray(prefix)[None]).long()
  out = small[0].generate(
    ids,
    attention_mask=torch.ones_like(ids),
    do_sample=False,
    max_new_tokens=count,
    pad_token_id=0,
  )
  return out[0, len(prefix) :].tolist()


def test_thinking_is_forced_to_stop_after_exactly_the_budget(small, case, greedy):
  free = np.asarray(greedy.tokens)
  sampling = _thinking(free)
  result = _generate(small, case, **sampling)
  for row in range(2):
    thinking = free[row, :7].tolist() + list(sampling["forced_stop_ids"])
    assert result.thinking_lengths[row] == 10
    assert result.tokens[row, :10].tolist() == thinking
    answer = _greedy_after(small, np.concatenate([_row(case, row), thinking]), 30)
    assert result.tokens[row, 10:40].tolist() == answer


@pytest.mark.parametrize("temperature", [0.0, 0.8], ids=["greedy", "sampling"])
def test_what_follows_the_closing_token_is_inserted_as_thinking_too(
  small, case, greedy, temperature
):
  sampling = _thinking(np.asarray(greedy.tokens))
  forced = sampling["forced_stop_ids"]
  # As Qwen's: the closing token, then newlines.
  sampling["forced_stop_ids"] = (*forced, forced[0], forced[0])
  result = _generate(small, case, temperature=temperature, max_answer_tokens=3, **sampling)
  plain = _generate(small, case, temperature=temperature)
  for row in range(2):
    assert result.tokens[row, :7].tolist() == plain.tokens[row, :7].tolist()
    assert result.tokens[row, 7:12].tolist() == [*forced, forced[0], forced[0]]
    assert result.thinking_lengths[row] == 12 and result.lengths[row] == 15
    if temperature == 0:
      thinking = np.concatenate([_row(case, row), result.tokens[row, :12]])
      assert result.tokens[row, 12:15].tolist() == _greedy_after(small, thinking, 3)


def test_thinking_that_ends_by_itself_has_nothing_inserted_after_it(small, case, greedy):
  free = np.asarray(greedy.tokens)
  end = int(free[0, 4])
  closed = free[0].tolist().index(end) + 1
  sampling = _thinking(free, end_think=end, forced_stop_ids=(96, end, 95))
  result = _generate(small, case, **sampling)
  assert result.thinking_lengths.tolist() == [closed, 10]
  np.testing.assert_array_equal(result.tokens[0], free[0])


def test_inserted_tokens_have_the_models_log_probability(small, case, greedy):
  result = _generate(small, case, **_thinking(np.asarray(greedy.tokens)), max_answer_tokens=2)
  for row in range(2):
    whole = np.concatenate([_row(case, row), result.tokens[row, :12]])[None]
    logprobs = reference.token_logprobs(reference.hf_logits(small[0], whole), whole)[0, -12:]
    np.testing.assert_allclose(result.logprobs[row, :12], logprobs, atol=1e-4)


def test_thinking_that_ends_by_itself_is_not_forced(small, case, greedy):
  free = np.asarray(greedy.tokens)
  end = int(free[0, 4])
  closed = free[0].tolist().index(end) + 1
  sampling = _thinking(free, end_think=end, forced_stop_ids=(96, end))
  result = _generate(small, case, **sampling)
  assert result.thinking_lengths[0] == closed
  np.testing.assert_array_equal(result.tokens[0], free[0])
  assert end not in free[1, :7]  # so the other row is forced
  assert result.thinking_lengths[1] == 9
  assert result.tokens[1, 7:9].tolist() == [96, end]


def test_a_thinking_budget_of_zero_inserts_the_stop_at_once(small, case, greedy):
  sampling = _thinking(np.asarray(greedy.tokens), thinking_budget=0)
  result = _generate(small, case, **sampling)
  for row in range(2):
    assert result.tokens[row, :3].tolist() == list(sampling["forced_stop_ids"])
    assert result.thinking_lengths[row] == 3


def test_the_answer_after_thinking_is_limited(small, case, greedy):
  sampling = _thinking(np.asarray(greedy.tokens))
  whole = _generate(small, case, **sampling)
  limited = _generate(small, case, **sampling, max_answer_tokens=4)
  assert limited.lengths.tolist() == [14, 14]
  np.testing.assert_array_equal(limited.tokens[:, :14], whole.tokens[:, :14])
  assert (limited.tokens[:, 14:] == -1).all()


def test_each_row_has_a_limit_of_its_own(small, case, greedy):
  result = _generate(small, case, max_answer_tokens=(3, 7))
  assert result.lengths.tolist() == [3, 7]
  for row, limit in enumerate((3, 7)):
    np.testing.assert_array_equal(result.tokens[row, :limit], greedy.tokens[row, :limit])
    assert (result.tokens[row, limit:] == -1).all()
  with user_error("SamplingConfig.max_answer_tokens holds 3 limits for 2 rows"):
    _generate(small, case, max_answer_tokens=(3, 7, 7))


def test_a_stop_token_among_the_inserted_ones_does_not_stop(small, case, greedy):
  sampling = _thinking(np.asarray(greedy.tokens)) | {"max_answer_tokens": 1}
  result = _generate(small, case, **sampling, stop_ids=sampling["forced_stop_ids"])
  assert result.lengths.tolist() == [11, 11]


def test_without_a_thinking_budget_nothing_is_thinking(greedy):
  assert greedy.thinking_lengths.tolist() == [0, 0]


@pytest.fixture(scope="module")
def six(small, case):
  """A function: (prompts [6, 9], lengths, sampling) to a generation, three rows a context."""
  _, model, params = small

  def run(prompt, lengths, **sampling):
    sampling = tt.SamplingConfig(max_new_tokens=_NEW, max_answer_tokens=8, **sampling)
    return tt.generate(model, params, None, case[2], prompt, _KEY, sampling, lengths)

  return run


def test_several_questions_on_one_context_equal_single_runs(small, case, six):
  tokens, lengths, _, _, _ = case
  prompt = random_tokens(np.random.default_rng(22), 6, 9)
  prompt_lengths = np.asarray([9, 1, 4, 7, 9, 2])
  together = six(prompt, prompt_lengths)
  for row in range(6):
    context = tokens[row // 3, : lengths[row // 3]]
    question = np.concatenate([context, prompt[row, : prompt_lengths[row]]])
    assert together.tokens[row, :8].tolist() == _greedy_after(small, question, 8)


def test_a_sampled_row_does_not_depend_on_the_other_rows(six):
  prompt = random_tokens(np.random.default_rng(23), 6, 9)
  other = random_tokens(np.random.default_rng(24), 6, 9)
  other[2] = prompt[2]
  first, second, again = (six(p, None, temperature=1.0) for p in (prompt, other, prompt))
  np.testing.assert_array_equal(first.tokens[2], second.tokens[2])
  np.testing.assert_array_equal(first.tokens, again.tokens)
  changed = (np.asarray(first.logprobs) != np.asarray(second.logprobs)).any(axis=1)
  assert changed.tolist() == [True, True, False, True, True, True]


def test_samples_of_one_question_differ_by_row(six):
  prompt = np.repeat(random_tokens(np.random.default_rng(25), 1, 9), 6, axis=0)
  tokens = np.asarray(six(prompt, None, temperature=1.5).tokens)
  assert len({tuple(row) for row in tokens}) == 6


@pytest.mark.parametrize("stopped", [False, True], ids=["sampled", "stopped early"])
def test_the_last_of_a_stream_equals_generate(small, case, greedy, stopped):
  _, model, params = small
  _, _, cache, prompt, prompt_lengths = case
  fields = {"temperature": 0.7, "top_p": 0.9, "max_answer_tokens": 33}
  if stopped:
    fields = {"stop_ids": (int(greedy.tokens[0, 10]), int(greedy.tokens[1, 12]))}
  sampling = tt.SamplingConfig(max_new_tokens=_NEW, **fields)
  parts = list(
    tt.stream(model, params, None, cache, prompt, _KEY, sampling, prompt_lengths, every=5)
  )
  whole = _generate(small, case, **fields)
  np.testing.assert_array_equal(parts[-1].tokens, whole.tokens)
  np.testing.assert_array_equal(parts[-1].lengths, whole.lengths)
  np.testing.assert_allclose(parts[-1].logprobs, whole.logprobs, atol=1e-5)
  shown = [int(part.lengths.max()) for part in parts]
  assert len(parts) > 2 and shown == sorted(shown) and shown[0] == 1


def test_generating_does_not_change_the_cache(small, case, greedy):
  del greedy
  _, model, params = small
  tokens, lengths, cache, _, _ = case
  fresh, _ = tt.prefill(model, params, tokens, lengths=lengths)
  jax.tree.map(np.testing.assert_array_equal, fresh, cache)


def test_the_first_token_may_follow_the_context_directly(small, case):
  _, model, params = small
  tokens, lengths, cache, _, _ = case
  last = tokens[np.arange(2), lengths - 1][:, None]
  sampling = tt.SamplingConfig(max_new_tokens=_NEW, max_answer_tokens=8)
  result = tt.generate(model, params, None, cache.rewind(1), last, _KEY, sampling)
  for row in range(2):
    answer = _greedy_after(small, tokens[row, : lengths[row]], 8)
    assert result.tokens[row, :8].tolist() == answer


def test_question_encoded_before_adaptation_equals_one_that_was_prefilled(small, case):
  _, model, params = small
  tokens, lengths, cache, prompt, prompt_lengths = case
  fast = jax.tree.map(
    lambda x: 0.1 * jax.random.normal(jax.random.key(5), x.shape), tt.init_fast(model, params)
  )
  sampling = tt.SamplingConfig(max_new_tokens=_NEW, max_answer_tokens=8)
  run = functools.partial(tt.generate, model, params, fast)
  result = run(cache, prompt, _KEY, sampling, prompt_lengths, question_before=True)
  after = run(cache, prompt, _KEY, sampling, prompt_lengths)
  assert (np.asarray(result.logprobs) != np.asarray(after.logprobs)).any(axis=1).all()
  for row in range(2):
    question = prompt[row, : prompt_lengths[row]]
    read = np.concatenate([tokens[row, : lengths[row]], question])[None]
    before, _ = tt.prefill(model, params, read, capacity=cache.capacity + 128)
    expected = run(before.rewind(1), read[:, -1:], _KEY, sampling)
    assert result.tokens[row, :8].tolist() == expected.tokens[0, :8].tolist()
    np.testing.assert_allclose(result.logprobs[row, :8], expected.logprobs[0, :8], atol=1e-4)


def test_lists_of_ids_are_as_arrays(small, case):
  _, model, params = small
  tokens, lengths, cache, prompt, prompt_lengths = case
  lists = lambda *arrays: [array.tolist() for array in arrays]
  listed, logits = tt.prefill(model, params, *lists(tokens, lengths))
  jax.tree.map(np.testing.assert_array_equal, listed, cache)
  sampling = tt.SamplingConfig(max_new_tokens=_NEW, max_answer_tokens=8)
  given = (prompt, prompt_lengths), lists(prompt, prompt_lengths)
  run = lambda p, n: tt.generate(model, params, None, cache, p, _KEY, sampling, n)
  jax.tree.map(np.testing.assert_array_equal, *(run(*x) for x in given))
  last = lambda p, n: list(tt.stream(model, params, None, cache, p, _KEY, sampling, n))[-1]
  jax.tree.map(np.testing.assert_array_equal, *(last(*x) for x in given))
  np.testing.assert_array_equal(*(tt.score(model, params, None, cache, *x) for x in given))
