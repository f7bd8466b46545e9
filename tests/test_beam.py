"""Beam search after the frozen context: transformers' search, and the budget of each beam."""

import functools

import jax
import numpy as np
import pytest
import torch

from tests import reference
from tests.reference import random_tokens
import tttjax as tt
from tttjax import flops
from tttjax.decode.beams import beam_search

_NEW = 24


@pytest.fixture(scope="module")
def case(small):
  """(rows of tokens, cache of 2 contexts, prompt [4, 9], prompt lengths): two rows a context."""
  _, model, params = small
  rng = np.random.default_rng(31)
  tokens, lengths = random_tokens(rng, 2, 60), np.asarray([60, 41])
  cache, _ = tt.prefill(model, params, tokens, lengths=lengths)
  prompt, prompt_lengths = random_tokens(rng, 4, 9), np.asarray([5, 9, 1, 7])
  rows = [
    np.concatenate([tokens[r // 2, : lengths[r // 2]], prompt[r, : prompt_lengths[r]]])
    for r in range(4)
  ]
  return rows, cache, prompt, prompt_lengths


def _search(small, case, num_beams, fast=None, length_penalty=1.0, **sampling):
  _, model, params = small
  _, cache, prompt, lengths = case
  sampling = tt.SamplingConfig(max_new_tokens=_NEW, **sampling)
  return beam_search(
    model, params, fast, cache, prompt, sampling, num_beams, lengths, length_penalty
  )


def _transformers(hf, rows, num_beams, stop_ids, length_penalty):
  """transformers' best sequences, cut after their end, their scores, and the steps it made."""
  width = max(map(len, rows))
  ids, mask = np.zeros((len(rows), width), int), np.zeros((len(rows), width), int)
  for i, row in enumerate(rows):
    ids[i, -len(row) :] = row
    mask[i, -len(row) :] = 1
  out = hf.generate(
    torch.tensor(ids),
    attention_mask=torch.tensor(mask),
    do_sample=False,
    num_beams=num_beams,
    max_new_tokens=_NEW,
    eos_token_id=list(stop_ids) or None,
    pad_token_id=0,
    length_penalty=length_penalty,
    return_dict_in_generate=True,
    output_scores=True,
  )
  sequences = []
  for tokens in out.sequences[:, width:].tolist():
    ends = [i + 1 for i, token in enumerate(tokens) if token in stop_ids]
    sequences.append(tokens[: ends[0] if ends else _NEW])
  return sequences, out.sequences_scores.numpy(), len(out.scores)


def _sequences(result):
  return [row[:n].tolist() for row, n in zip(np.asarray(result.tokens), result.lengths)]


@pytest.fixture(scope="module")
def stops(small, case):
  """Stop ids that come early in free searches: 0, 1 and 5 of them."""
  free = np.asarray(_search(small, case, 4).tokens)
  return (), (int(free[0, 9]),), tuple(int(i) for i in np.unique(free[:, [4, 7, 12]])[:5])


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("count", [0, 1, 2], ids=["no stop id", "one stop id", "five stop ids"])
@pytest.mark.parametrize("num_beams", [2, 4, 8])
def test_search_equals_transformers(small, case, stops, num_beams, count, length_penalty):
  ids = stops[count]
  result = _search(small, case, num_beams, stop_ids=ids, length_penalty=length_penalty)
  sequences, scores, steps = _transformers(small[0], case[0], num_beams, ids, length_penalty)
  assert _sequences(result) == sequences
  np.testing.assert_allclose(result.scores, scores, rtol=1e-5, atol=1e-5)
  assert result.steps.max() == steps


def test_the_searches_above_end_early_and_differ(small, case, stops):
  """Otherwise the comparison with transformers would show little."""
  run = functools.partial(_search, small, case, 4, stop_ids=stops[2])
  results = [run(length_penalty=penalty) for penalty in (-1.0, 1.0, 2.0)]
  assert min(result.lengths.min() for result in results) < 8
  assert len({str(_sequences(result)) for result in results}) == 3
  assert len({str(_sequences(_search(small, case, n))) for n in (1, 2, 4, 8)}) == 4


def test_what_is_returned_beside_the_tokens(small, case, stops):
  result = _search(small, case, 4, stop_ids=stops[1])
  assert (result.steps >= result.lengths).all() and (result.steps < _NEW).any()
  assert result.thinking_lengths.tolist() == [0] * 4
  for i, tokens in enumerate(_sequences(result)):
    n = len(tokens)
    whole = np.concatenate([case[0][i], tokens])[None]
    logprobs = reference.token_logprobs(reference.hf_logits(small[0], whole), whole)[0, -n:]
    np.testing.assert_allclose(result.logprobs[i, :n], logprobs, atol=1e-4)
    assert (result.logprobs[i, n:] == 0).all() and (result.tokens[i, n:] == -1).all()
    assert result.scores[i] == pytest.approx(logprobs.mean(), abs=1e-4)


def test_each_row_ends_at_its_own_limit(small, case):
  limits = (3, 9, 5, _NEW)
  result = _search(small, case, 4, max_answer_tokens=limits)
  for row, limit in enumerate(limits):
    alike = _search(small, case, 4, max_answer_tokens=limit)
    assert result.lengths[row] == alike.lengths[row] <= limit
    np.testing.assert_array_equal(result.tokens[row], alike.tokens[row])
  assert result.steps.tolist() == list(limits)


# The thinking budget. -----------------------------------------------------------------------------

_END, _INSERTED = 43, (95, 96, 43)


def _thinking(budget=6, answer=5, inserted=_INSERTED):
  """Closing tokens that beams do choose by themselves, and three inserted ones otherwise."""
  return {
    "thinking_budget": budget,
    "end_think": _END,
    "forced_stop_ids": inserted,
    "max_answer_tokens": answer,
  }


def _plain_search(hf, row, num_beams, stop_ids, budget, answer, length_penalty, inserted):
  """The search written over Python lists with transformers' uncached forward.

  Returns:
    (tokens, thinking length or None where it never closed, score) of the best hypothesis.
  """

  def thinking_length(tokens):
    if _END in tokens[:budget]:
      return tokens.index(_END) + 1
    return budget + len(inserted) if len(tokens) >= budget + len(inserted) else None

  def score(total, tokens):
    closed_itself = _END in tokens[:budget]
    chosen = len(tokens)
    if not closed_itself:
      chosen -= min(max(len(tokens) - budget, 0), len(inserted))
    return total / max(chosen, 1) ** length_penalty

  running, finished = [(0.0, [])], []
  while running:
    extended = []
    for total, tokens in running:
      whole = np.concatenate([row, tokens]).astype(int)[None]
      logprobs = reference.log_softmax(reference.hf_logits(hf, whole)[0, -1])
      if thinking_length(tokens) is None and len(tokens) >= budget:
        extended.append((total, tokens + [inserted[len(tokens) - budget]], False))
        continue
      for token, value in enumerate(logprobs):
        new = tokens + [token]
        before = thinking_length(tokens)
        full = before is not None and len(new) - before == answer
        extended.append((total + value, new, token in stop_ids or full))
    extended.sort(key=lambda item: -item[0])
    last = len(extended[0][1]) == _NEW
    for total, tokens, end in extended[:num_beams]:
      if end or last:
        finished.append((score(total, tokens), tokens))
    finished = sorted(finished, reverse=True)[:num_beams]
    running = [(t, tokens) for t, tokens, end in extended if not end and not last][:num_beams]
    possible = max((score(*item) for item in running), default=-np.inf)
    if len(finished) == num_beams and possible <= finished[-1][0]:
      break
  best, tokens = finished[0]
  return tokens, thinking_length(tokens), best


@pytest.mark.parametrize("inserted", [_INSERTED, (95, _END, 96, 96)], ids=["last", "then more"])
@pytest.mark.parametrize("budget, answer, penalty", [(6, 5, 1.0), (0, 4, 0.0), (9, 30, 1.0)])
def test_search_with_a_thinking_budget_equals_a_plain_one(
  small, case, stops, budget, answer, penalty, inserted
):
  ids = stops[1]
  thinking = _thinking(budget, answer, inserted)
  result = _search(small, case, 4, stop_ids=ids, length_penalty=penalty, **thinking)
  for i, tokens in enumerate(_sequences(result)):
    expected, thought, score = _plain_search(
      small[0], case[0][i], 4, ids, budget, answer, penalty, inserted
    )
    assert tokens == expected
    assert result.thinking_lengths[i] == (len(expected) if thought is None else thought)
    assert result.scores[i] == pytest.approx(score, abs=1e-4)


def test_every_hypothesis_closes_its_thinking_within_the_budget(small, case):
  for num_beams in (2, 8):
    result = _search(small, case, num_beams, **_thinking())
    assert len(set(result.thinking_lengths.tolist())) > 1  # forced, and closed by itself
    for tokens, thought in zip(_sequences(result), result.thinking_lengths.tolist()):
      assert len(tokens) == thought + 5
      if thought > 6:
        assert tokens[6:9] == list(_INSERTED) and _END not in tokens[:6]
      else:
        assert tokens.index(_END) == thought - 1


def test_one_beam_is_greedy(small, case, stops):
  _, model, params = small
  _, cache, prompt, lengths = case
  for budget in ({}, _thinking()):
    sampling = tt.SamplingConfig(max_new_tokens=_NEW, stop_ids=stops[1], **budget)
    greedy = tt.generate(model, params, None, cache, prompt, jax.random.key(0), sampling, lengths)
    beam = _search(small, case, 1, stop_ids=stops[1], **budget)
    assert beam.steps.tolist() == greedy.lengths.tolist()
    np.testing.assert_array_equal(beam.tokens, greedy.tokens)
    np.testing.assert_array_equal(beam.lengths, greedy.lengths)
    np.testing.assert_array_equal(beam.thinking_lengths, greedy.thinking_lengths)
    np.testing.assert_allclose(beam.logprobs, greedy.logprobs, atol=1e-5)


# Weights, programs, cost, mistakes. ---------------------------------------------------------------


def test_fast_weights_act_as_merged_ones(small, case):
  _, model, params = small
  fast = jax.tree.map(
    lambda d: 0.1 * jax.random.normal(jax.random.key(0), d.shape), tt.init_fast(model, params)
  )
  adapted = _search(small, case, 4, fast)
  merged = _search((None, model, tt.merge(model, params, fast)), case, 4)
  assert _sequences(adapted) == _sequences(merged) != _sequences(_search(small, case, 4))
  np.testing.assert_allclose(adapted.scores, merged.scores, atol=1e-5)


def test_another_budget_or_length_compiles_nothing(small, case, stops, compilations):
  _, model, params = small
  _search(small, case, 4)
  rng = np.random.default_rng(32)
  cache, _ = tt.prefill(model, params, random_tokens(rng, 2, 70))
  before = compilations()
  _search(small, case, 4, stop_ids=stops[2], length_penalty=0.3, **_thinking(3, 2))
  _search(small, (None, cache, random_tokens(rng, 4, 17), None), 4, **_thinking(0, 9))
  assert compilations() == before


@pytest.mark.parametrize("delta", [False, True], ids=["base weights", "with a Delta"])
def test_the_prompt_is_encoded_once_a_row(small, case, delta):
  _, model, params = small
  _, cache, prompt, _ = case
  fast = tt.init_fast(model, params) if delta else None
  sampling = tt.SamplingConfig(max_new_tokens=_NEW)
  executed = flops.executed_flops(
    lambda params, cache, prompt: beam_search(model, params, fast, cache, prompt, sampling, 8),
    *(params, cache, prompt),
    # The prompt's attention over suffix and prefix; the steps, with both inside.
    while_trips=(1, 1, _NEW - 1, 1, 1),
  )
  count = functools.partial(flops.dense_decode, model.config, delta=delta, slots=2 * 128)
  steps = count(8 * 4, 32, _NEW) - count(8 * 4, 32, 1)
  assert executed == count(4, 32, 1) + steps
  # The model count pays for the same products with Delta, of the rows that are encoded.
  base, paid = (flops.beam(model.config, 60, 32, _NEW, 8, d) for d in (False, delta))
  rows = 32 + 8 * (_NEW - 1)
  assert paid - base == delta * rows * flops.terms.query_row(model.config)


def test_mistakes_are_refused(small, case):
  with pytest.raises(tt.UserError, match="temperature is 0.6 but beam search does not sample"):
    _search(small, case, 2, temperature=0.6)
  for num_beams in (0, 98):
    with pytest.raises(tt.UserError, match=r"num_beams must be at (least 1|most 97)"):
      _search(small, case, num_beams)
