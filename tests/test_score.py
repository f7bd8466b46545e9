"""Teacher-forced scores after a context against transformers."""

import jax
import numpy as np
import pytest

from tests import reference
from tests.reference import random_tokens
import tttjax as tt
from tttjax.decode.scoring import score_targets


@pytest.fixture(scope="module")
def case(small):
  """(context [2, 60], lengths, cache, tokens [4, 20], lengths): two rows on each context."""
  _, model, params = small
  rng = np.random.default_rng(41)
  context, lengths = random_tokens(rng, 2, 60), np.asarray([60, 41])
  cache, _ = tt.prefill(model, params, context, lengths=lengths)
  return context, lengths, cache, random_tokens(rng, 4, 20), np.asarray([20, 7, 1, 13])


@pytest.fixture(scope="module")
def scores(small, case):
  _, model, params = small
  return np.asarray(tt.score(model, params, None, case[2], case[3], case[4]))


def test_scores_of_unequal_rows_equal_transformers(small, case, scores):
  context, context_lengths, _, tokens, lengths = case
  for row in range(4):
    prefix = context_lengths[row // 2]
    whole = np.concatenate([context[row // 2, :prefix], tokens[row, : lengths[row]]])[None]
    logits = reference.hf_logits(small[0], whole)
    expected = reference.token_logprobs(logits, whole)[0, prefix:]
    np.testing.assert_allclose(scores[row, 1 : lengths[row]], expected, atol=1e-4)


def test_column_zero_and_padding_are_zero(case, scores):
  assert scores.shape == (4, 20) and scores.dtype == np.float32
  assert (scores[:, 0] == 0).all()
  for row, length in enumerate(case[4]):
    assert (scores[row, length:] == 0).all()
    assert (scores[row, 1:length] < 0).all()


def test_padding_ids_do_not_matter(small, case, scores):
  _, model, params = small
  _, _, cache, tokens, lengths = case
  padded = np.where(np.arange(20) < lengths[:, None], tokens, -7)
  np.testing.assert_array_equal(tt.score(model, params, None, cache, padded, lengths), scores)


def test_scores_equal_the_logprobs_of_generate(small, case):
  _, model, params = small
  _, _, cache, tokens, _ = case
  prompt = tokens[::2, :5]
  sampling = tt.SamplingConfig(max_new_tokens=256, max_answer_tokens=15)
  result = tt.generate(model, params, None, cache, prompt, jax.random.key(0), sampling)
  whole = np.concatenate([prompt, result.tokens[:, :15]], axis=1)
  scores = tt.score(model, params, None, cache, whole)
  np.testing.assert_allclose(scores[:, 5:], result.logprobs[:, :15], atol=1e-4)


def test_targets_of_unequal_rows_equal_transformers(small, case):
  """Values, and which of them are the likeliest token; the last target takes no position."""
  context, context_lengths, cache, tokens, lengths = case
  _, model, params = small
  rows, lengths = tokens[:, :-1], np.minimum(lengths, 19)
  likeliest = np.array(tokens[:, 1:])
  expected = []
  for row in range(4):
    prefix = context_lengths[row // 2]
    whole = np.concatenate([context[row // 2, :prefix], rows[row, : lengths[row]]])[None]
    logits = reference.hf_logits(small[0], whole)[0, prefix:]
    likeliest[row, 0] = logits[0].argmax()
    chosen = likeliest[row, : lengths[row], None]
    logprobs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    expected.append((np.take_along_axis(logprobs, chosen, -1)[:, 0], logits.argmax(-1)))
  arguments = model, params, None, cache, rows, likeliest, lengths
  scores, greedy = score_targets(*arguments)
  for row, (values, best) in enumerate(expected):
    length = lengths[row]
    np.testing.assert_allclose(scores[row, :length], values, atol=1e-4)
    np.testing.assert_array_equal(greedy[row, :length], best == likeliest[row, :length])
    assert greedy[row, 0] and not scores[row, length:].any() and not greedy[row, length:].any()


def test_targets_of_another_shape_are_refused(small, case):
  _, model, params = small
  with pytest.raises(tt.UserError, match="targets must have the shape"):
    score_targets(model, params, None, case[2], case[3], case[3][:, 1:])
