"""Every public function under jax_enable_x64: the same numbers, in the same dtypes."""

import jax
import numpy as np
import pytest

from tests.reference import random_tokens
import tttjax as tt

_SAMPLING = tt.SamplingConfig(
  max_new_tokens=12,
  temperature=0.8,
  top_k=20,
  top_p=0.9,
  min_p=0.01,
  stop_ids=(3,),
  thinking_budget=4,
  end_think=90,
  forced_stop_ids=(91, 90),
)


def _everything(model, params):
  """name -> results of all public functions on one context."""
  rng, key = np.random.default_rng(81), jax.random.key(1)
  tokens, prompt = random_tokens(rng, 1, 150), random_tokens(rng, 2, 9)
  evidence = np.zeros((2, 150), bool)
  evidence[:, 5:9] = True
  cfg = tt.TTTConfig(steps=3, span=16, learning_rate=1e-3, warmup_steps=1, schedule="cosine")
  cache, logits = tt.prefill(model, params, tokens)
  fast, opt_state, history = tt.adapt(model, params, cache, tokens, key, cfg)
  greedy = tt.SamplingConfig(max_new_tokens=12)
  statistics = tt.mechanism.attention_statistics(model, params, fast, cache, prompt, None, evidence)
  return {
    "prefill": (cache, logits),
    "adapt": (fast, opt_state, history),
    "ttt_step": tt.ttt_step(model, params, fast, opt_state, cache, tokens, 3, cfg),
    "full_ttt": tt.full_ttt(model, params, tokens, None, cfg),
    "generate": tt.generate(model, params, fast, cache, prompt, key, _SAMPLING),
    "stream": list(tt.stream(model, params, fast, cache, prompt, key, _SAMPLING))[-1],
    "beam_search": tt.beam_search(model, params, fast, cache, prompt, greedy, 3),
    "score": tt.score(model, params, fast, cache, prompt),
    "attention_statistics": statistics,
    "query_step_check": tt.mechanism.query_step_check(
      model, params, fast, cache, prompt, None, evidence, 1, [0.1]
    ),
    "span_losses": tt.mechanism.span_losses(model, params, fast, cache, tokens, [3, 5], 16),
    "merge": tt.merge(model, params, fast),
    "scaled_queries": tt.scaled_queries(model, 1.1, fast),
    "adapt_params": tt.adapt_params(model, params, tokens, key, cfg),
    "init_params": tt.init_params(model, key),
  }


def test_every_public_function_gives_the_same_numbers_under_x64(small):
  _, model, params = small
  expected = _everything(model, params)
  with jax.enable_x64(True):
    got = _everything(model, params)
  for name, results in expected.items():
    assert jax.tree.structure(results) == jax.tree.structure(got[name]), name
    for ours, theirs in zip(*map(jax.tree.leaves, (got[name], results))):
      assert ours.dtype == theirs.dtype, name
      ours, theirs = np.asarray(ours), np.asarray(theirs)
      if np.issubdtype(ours.dtype, np.floating):
        error = np.linalg.norm(ours - theirs)
        assert error <= 1e-3 * np.linalg.norm(theirs), (name, error)
      else:
        np.testing.assert_array_equal(ours, theirs, name)


@pytest.mark.parametrize(
  "start",
  [
    np.int64(2**32 + 3),  # 3 as int32
    np.int64(2**40),
    np.int64(-(2**32) + 3),
    np.uint64(2**32 + 3),
    np.uint64(2**64 - 1),
    np.int64(2**31 - 1),  # whose span's end wraps
    np.int32(2**31 - 1),
    np.uint32(2**31 + 5),
    np.int64(-1),
    np.int8(-1),
    np.uint8(200),
  ],
  ids=repr,
)
def test_a_traced_start_far_outside_is_no_step(small, context, start):
  _, model, params = small
  tokens, cache = context
  fast = tt.init_fast(model, params)
  state = tt.init_optimizer(fast)
  cfg = tt.TTTConfig(steps=2, span=16, learning_rate=1e-3)
  with jax.enable_x64(True):
    step = jax.jit(lambda s: tt.ttt_step(model, params, fast, state, cache, tokens, s, cfg))
    new, _, metrics = step(start)
    assert not metrics.ok and metrics.start.dtype == np.int32
    jax.tree.map(np.testing.assert_array_equal, new, fast)
    assert step(np.asarray(3, start.dtype))[2].ok
    run = jax.jit(lambda s: tt.adapt(model, params, cache, tokens, None, cfg, starts=s)[2])
    assert run(np.array([3, start], start.dtype)).ok.tolist() == [True, False]
