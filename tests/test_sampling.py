"""Sampling: filters against transformers' warpers, frequencies by chi-square."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch
from transformers.generation.logits_process import (
  LogitsProcessorList,
  MinPLogitsWarper,
  TemperatureLogitsWarper,
  TopKLogitsWarper,
  TopPLogitsWarper,
)

from tests import reference
from tests.reference import random_tokens
import tttjax as tt
from tttjax.decode.sampling import choose, filter_logits

CASES = {
  "plain": {"temperature": 1.0},
  "hot": {"temperature": 1.7},
  "cold": {"temperature": 0.4},
  "top-k": {"temperature": 1.0, "top_k": 5},
  "top-k 1": {"temperature": 1.0, "top_k": 1},
  "top-p": {"temperature": 1.0, "top_p": 0.8},
  "top-p of one token": {"temperature": 1.0, "top_p": 0.01},
  "min-p": {"temperature": 1.0, "min_p": 0.1},
  "paper, thinking": {"temperature": 0.6, "top_p": 0.95, "top_k": 20},
  "paper, answering": {"temperature": 0.7, "top_p": 0.8, "top_k": 20},
  "all": {"temperature": 1.3, "top_k": 12, "top_p": 0.9, "min_p": 0.05},
}


def _warped(logits, temperature, top_k=0, top_p=1.0, min_p=0.0):
  """float32 logits after transformers' warpers, in the order of its generate."""
  warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
  if top_k:
    warpers.append(TopKLogitsWarper(top_k))
  if top_p < 1:
    warpers.append(TopPLogitsWarper(top_p))
  if min_p:
    warpers.append(MinPLogitsWarper(min_p))
  return warpers(None, torch.tensor(np.asarray(logits, np.float32)))


def _expected(logits, temperature, **filters):
  """The probabilities that those give, float64."""
  return torch.softmax(_warped(logits, temperature, **filters).double(), -1).numpy()


def _fits(tokens, probabilities):
  """Whether the frequencies of tokens agree with probabilities; rare tokens are pooled."""
  counts = np.bincount(tokens, minlength=len(probabilities))
  assert counts[probabilities == 0].sum() == 0
  expected = probabilities * len(tokens)
  rare = expected < 10
  pooled = lambda x: np.append(x[~rare], x[rare].sum())
  observed, wanted = pooled(counts), pooled(expected)
  used = wanted > 0
  if used.sum() == 1:
    return True
  return scipy.stats.chisquare(observed[used], wanted[used]).pvalue > 1e-4


@pytest.fixture(scope="module")
def logits():
  """Rows float32 [6, 97], flat to peaked, and one with ties."""
  rng = np.random.default_rng(31)
  rows = rng.normal(size=(6, 97)) * np.asarray([0.1, 1, 2, 4, 8, 1])[:, None]
  rows[5] = np.round(rows[5])
  return rows.astype(np.float32)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_filtered_probabilities_equal_transformers(logits, case):
  sampling = tt.SamplingConfig(**case).traced(1)
  filtered = np.asarray(jax.jit(filter_logits)(logits[:5], sampling))
  np.testing.assert_array_equal(filtered > -np.inf, _warped(logits[:5], **case) > -np.inf)
  np.testing.assert_allclose(jax.nn.softmax(filtered, -1), _expected(logits[:5], **case), atol=1e-5)


def test_ties_at_the_edge_of_top_k_are_kept_as_in_transformers(logits):
  case = {"temperature": 1.0, "top_k": 5}
  got = jax.nn.softmax(filter_logits(logits[5:], tt.SamplingConfig(**case).traced(1)), -1)
  np.testing.assert_allclose(got, _expected(logits[5:], **case), atol=1e-5)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_chosen_tokens_follow_the_distribution(logits, case):
  sampling = tt.SamplingConfig(**case).traced(1)
  keys = jax.random.split(jax.random.key(1), 4000)
  rows = jnp.broadcast_to(jnp.asarray(logits[2]), (4000, 97))
  tokens = np.asarray(jax.jit(choose)(rows, keys, sampling))
  assert _fits(tokens, _expected(logits[2:3], **case)[0])


def test_the_chi_square_would_notice_a_wrong_temperature(logits):
  keys = jax.random.split(jax.random.key(1), 4000)
  rows = jnp.broadcast_to(jnp.asarray(logits[2]), (4000, 97))
  tokens = jax.jit(choose)(rows, keys, tt.SamplingConfig(temperature=1.1).traced(1))
  assert not _fits(np.asarray(tokens), _expected(logits[2:3], 1.0)[0])


def test_temperature_zero_is_the_argmax(logits):
  keys = jax.random.split(jax.random.key(1), 6)
  got = choose(jnp.asarray(logits), keys, tt.SamplingConfig(top_k=3, top_p=0.1).traced(1))
  np.testing.assert_array_equal(got, logits.argmax(-1))


def test_sampled_first_tokens_of_generate_follow_transformers(small):
  hf, model, params = small
  rng = np.random.default_rng(32)
  context, prompt = random_tokens(rng, 1, 40), random_tokens(rng, 1, 3)
  case = {"temperature": 1.3, "top_k": 30, "top_p": 0.9, "min_p": 0.02}
  cache, _ = tt.prefill(model, params, context)
  result = tt.generate(
    model,
    params,
    None,
    cache,
    np.repeat(prompt, 512, axis=0),
    jax.random.key(5),
    tt.SamplingConfig(max_new_tokens=2, **case),
  )
  logits = reference.hf_logits(hf, np.concatenate([context, prompt], axis=1))[:, -1]
  assert _fits(np.asarray(result.tokens[:, 0]), _expected(logits, **case)[0])
  # Log-probabilities are the model's own, not the filtered ones.
  plain = reference.log_softmax(logits)[0]
  np.testing.assert_allclose(result.logprobs[:, 0], plain[result.tokens[:, 0]], atol=1e-4)


def test_the_second_token_is_drawn_independently_of_the_first(small):
  _, model, params = small
  rng = np.random.default_rng(33)
  cache, _ = tt.prefill(model, params, random_tokens(rng, 1, 40))
  prompt = np.repeat(random_tokens(rng, 1, 3), 512, axis=0)
  # At a very high temperature both tokens are uniform whatever the model says.
  sampling = tt.SamplingConfig(max_new_tokens=2, temperature=1e6)
  tokens = np.asarray(
    tt.generate(model, params, None, cache, prompt, jax.random.key(5), sampling).tokens
  )
  pairs = np.bincount((tokens[:, 0] % 5) * 5 + tokens[:, 1] % 5, minlength=25)
  share = np.bincount(np.arange(97) % 5) / 97
  assert scipy.stats.chisquare(pairs, np.outer(share, share).ravel() * 512).pvalue > 1e-4
