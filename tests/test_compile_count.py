"""Within one capacity all that varies per call is traced: the second call compiles nothing."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.reference import random_tokens
import tttjax as tt

_END = 90


def _example(model, params, seed, length, steps, rate, temperature, budget, stops, questions=9):
  """The whole flow on one example: prefill, adapt, one step, generate, score, mechanism."""
  rng = np.random.default_rng(seed)
  tokens = random_tokens(rng, 1, length)
  key = jax.random.key(seed)
  cfg = tt.TTTConfig(
    steps=steps,
    span=16,
    learning_rate=rate,
    weight_decay=rate,
    clip=1 / steps,
    warmup_steps=steps % 3,
  )
  cache, logits = tt.prefill(model, params, tokens)
  fast, opt_state, history = tt.adapt(model, params, cache, tokens, key, cfg)
  fast, opt_state, _ = tt.ttt_step(model, params, fast, opt_state, cache, tokens, length // 2, cfg)
  sampling = tt.SamplingConfig(
    max_new_tokens=16,
    temperature=temperature,
    top_k=steps,
    top_p=1 - rate,
    min_p=rate,
    stop_ids=stops,
    thinking_budget=budget,
    end_think=_END,
    forced_stop_ids=(91,) * len(stops) + (_END,),
    max_answer_tokens=steps,
  )
  prompt = random_tokens(rng, 2, questions)
  result = tt.generate(model, params, fast, cache, prompt, key, sampling)
  scores = tt.score(model, params, fast, cache, prompt)
  evidence = np.zeros((2, length), bool)
  mass = tt.mechanism.attention_mass(model, params, fast, cache, prompt, None, evidence)
  return jax.block_until_ready((logits, history, result, scores, mass))


@pytest.fixture(scope="module")
def first(small):
  """One example has run."""
  _, model, params = small
  _example(model, params, 0, 200, 5, 1e-3, 0.7, 4, (1, 2))


@pytest.mark.parametrize(
  "change",
  [
    {"length": 256, "seed": 1},
    {"length": 131},
    {"steps": 9},
    {"rate": 1e-2},
    {"temperature": 0.0},
    {"budget": 7},
    {"budget": None},
    {"stops": (3, 4, 5, 6)},
    {"questions": 17},
  ],
  ids=str,
)
def test_another_value_compiles_nothing_new(small, first, compilations, change):
  del first
  _, model, params = small
  base = {
    "seed": 0,
    "length": 200,
    "steps": 5,
    "rate": 1e-3,
    "temperature": 0.7,
    "budget": 4,
    "stops": (1, 2),
  }
  before = compilations()
  _example(model, params, **(base | change))
  assert compilations() == before


def test_plain_inference_does_not_allocate_a_zero_delta(small, first, compilations):
  # fast=None is another program, not the adapted one with zeros.
  del first
  _, model, params = small
  cache, _ = tt.prefill(model, params, random_tokens(np.random.default_rng(0), 1, 200))
  before = compilations()
  tt.score(model, params, None, cache, np.zeros((2, 9), np.int32))
  assert compilations() == before + 1


def test_the_counter_counts(compilations):
  before = compilations()
  jax.jit(lambda x: x * 3.25)(np.ones(7, np.float32))
  assert compilations() == before + 1


def test_programs_are_counted_as_compiled_or_loaded(tmp_path):
  """In a process of its own: the cache is jax's configuration."""
  code = f"""
import jax
jax.config.update("jax_compilation_cache_dir", {str(tmp_path)!r})
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
import numpy as np
from tttjax import compiling
for _ in range(2):
  before = compiling.so_far()
  jax.jit(lambda x: x * 2.5 + 1)(np.ones(7))
  print(compiling.so_far().since(before))
  jax.clear_caches()
"""
  run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  said = [re.sub(r", in \d+\.\d s", "", line) for line in run.stdout.splitlines()]
  assert said == ["1 program: 1 compiled", "1 program: 1 from the cache"]
