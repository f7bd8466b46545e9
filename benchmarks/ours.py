"""The phases of tttjax, each as an action that ends when its result is there."""

import functools
import time

import jax
import numpy as np

from benchmarks.alternating import Action
from benchmarks.subjects import Subject, context
from benchmarks.suites import Suite
import tttjax as tt
from tttjax import together

PROMPT = 16


class Ours:
  """Everything about one context of one length."""

  def __init__(self, suite: Suite, subject: Subject, length: int):
    self._suite, self._length = suite, length
    self._model, self._params = subject.model, subject.params
    self._tokens = context(suite, length)
    self._cache, _ = tt.prefill(self._model, self._params, self._tokens)
    self._fast = tt.init_fast(self._model, self._params)
    self._state = tt.init_optimizer(self._fast)
    self._key = jax.random.key(0)
    self._prompt = context(suite, PROMPT, seed=1)

  def _cfg(self, steps: int) -> tt.TTTConfig:
    return tt.TTTConfig(steps=steps, span=self._suite.span)

  @property
  def last_start(self) -> int:
    """Where the last span of the context starts: the step that attends to all of it."""
    return self._length - self._suite.span - 1

  def prefill(self) -> None:
    jax.block_until_ready(tt.prefill(self._model, self._params, self._tokens))

  def step(self) -> None:
    arguments = self._model, self._params, self._fast, self._state, self._cache, self._tokens
    start = np.int32(self.last_start)
    jax.block_until_ready(tt.ttt_step(*arguments, start, self._cfg(1)))

  def loop(self) -> None:
    """All steps on the last span, as torch's loop takes them: random ones attend to half."""
    arguments = self._model, self._params, self._cache, self._tokens, self._key
    starts = np.full(self._suite.steps, self.last_start, np.int32)
    jax.block_until_ready(tt.adapt(*arguments, self._cfg(self._suite.steps), starts=starts))

  def decode(self, rows: int, new_tokens: int) -> float:
    """Seconds of the tokens after the first: the prompt is encoded with that one."""
    prompt, seconds = np.repeat(self._prompt, rows, axis=0), []
    for size in (1, 1 + new_tokens):
      sampling = tt.SamplingConfig(max_new_tokens=size)
      begin = time.perf_counter()
      arguments = self._model, self._params, None, self._cache, prompt, self._key, sampling
      jax.block_until_ready(tt.generate(*arguments))
      seconds.append(time.perf_counter() - begin)
    return seconds[1] - seconds[0]

  def several(self, contexts: int) -> list:
    """(tokens, cache) of so many contexts that differ."""
    texts = [context(self._suite, self._length, seed=10 + i) for i in range(contexts)]
    return [(tokens, tt.prefill(self._model, self._params, tokens)[0]) for tokens in texts]

  def score(self) -> None:
    prompt = context(self._suite, self._suite.span, seed=2)
    jax.block_until_ready(tt.score(self._model, self._params, None, self._cache, prompt))

  def adapt_and_answer(self, read: list, together_: bool) -> None:
    """Adapts to each of the contexts and answers, by one program or one after another.

    Args:
      read: (tokens, cache) of each.
    """
    sampling = tt.SamplingConfig(max_new_tokens=self._suite.new_tokens)

    def one(number: int):
      (tokens, cache), key = read[number], jax.random.fold_in(self._key, number)
      shared = self._model, self._params
      cfg = self._cfg(self._suite.steps)
      fast, _, _ = tt.adapt(*shared, cache, tokens, key, cfg)
      out = tt.generate(*shared, fast, cache, self._prompt, key, sampling)
      return jax.block_until_ready(out)

    actions = [functools.partial(one, number) for number in range(len(read))]
    if together_:
      together.run(actions)
    else:
      for action in actions:
        action()


def actions(ours: Ours, suite: Suite) -> dict[str, Action]:
  """By the phase's name."""
  return {
    "prefill": ours.prefill,
    "step": ours.step,
    "loop": ours.loop,
    "decode": functools.partial(ours.decode, 1, suite.new_tokens),
    "decode, shared": functools.partial(ours.decode, suite.samples, suite.new_tokens),
    "score": ours.score,
  }
