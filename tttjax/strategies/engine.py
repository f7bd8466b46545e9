"""The model as strategies see it: prefill, adapt, generate and a mechanism hook, with their costs.

Shapes depend on capacity, rows and the sizes of the budget, not on the example,
so every program is compiled once per capacity.
"""

import contextlib
import dataclasses
import time
from typing import Iterator

import jax
import numpy as np

from tttjax import flops
from tttjax.cache import PrefixCache
from tttjax.decode.config import SamplingConfig
from tttjax.decode.generate import generate
from tttjax.mechanism import attention_mass
from tttjax.prefill import prefill
from tttjax.qwen3.model import Params, Qwen3
from tttjax.strategies.base import Case, Cost, Phase, Prediction
from tttjax.tasks.example import Example
from tttjax.ttt.adapt import adapt
from tttjax.ttt.config import TTTConfig

_compilations = 0


def _count_compilations(event: str, duration: float, **unused) -> None:
  global _compilations
  _compilations += event == '/jax/core/compile/backend_compile_duration'


jax.monitoring.register_event_duration_secs_listener(_count_compilations)


@dataclasses.dataclass
class _Clock:
  seconds: float = 0.0
  compiled: bool = False


@contextlib.contextmanager
def _clock() -> Iterator[_Clock]:
  """Times its block and notes whether XLA compiled something inside it."""
  clock, before, start = _Clock(), _compilations, time.perf_counter()
  yield clock
  clock.seconds = time.perf_counter() - start
  clock.compiled = _compilations > before


class Engine:
  """Model, parameters and tokenizer, with the cost of every call."""

  def __init__(self, model: Qwen3, params: Params, tokenizer):
    self.model = model
    self.params = params
    self.tokenizer = tokenizer
    # The last prefill: strategies in turn read the same context, and each is charged for it.
    self._prefilled: tuple[np.ndarray, int, PrefixCache, Cost] | None = None

  def encode(self, text: str) -> tuple[int, ...]:
    """Token ids of `text`, which carries its own special tokens."""
    return tuple(self.tokenizer(text, add_special_tokens=False)['input_ids'])

  def case(self, example: Example, capacity: int, rows: int) -> Case:
    """Encodes an example for programs with `capacity` cache slots and `rows` rows."""
    return Case(
        example=example,
        tokens=np.array([self.encode(example.context)], np.int32),
        capacity=capacity,
        prompts=tuple(self.encode(q.text) for q in example.questions),
        thinking_prompts=tuple(self.encode(q.thinking_text) for q in example.questions),
        answers=tuple(self.encode(q.answer) for q in example.questions),
        rows=rows,
    )

  def prefill(self, case: Case) -> tuple[PrefixCache, Cost]:
    """Reads the context once; the last context's cache is kept for the next strategy."""
    kept = self._prefilled
    if kept and kept[1] == case.capacity and np.array_equal(kept[0], case.tokens):
      return kept[2], kept[3]
    self._prefilled = None  # frees the old cache before the new one is built
    with _clock() as clock:
      # Padding to the capacity keeps one shape; the length is an argument.
      tokens = np.pad(case.tokens, ((0, 0), (0, case.capacity - case.num_tokens)))
      lengths = np.array([case.num_tokens], np.int32)
      cache, _ = prefill(self.model, self.params, tokens, lengths, case.capacity)
      jax.block_until_ready(cache)
    work = flops.prefill(self.model.config, case.num_tokens)
    cost = Cost((Phase('prefill', clock.seconds, clock.compiled, work),))
    self._prefilled = (case.tokens, case.capacity, cache, cost)
    return cache, cost

  def adapt(
      self, case: Case, cache: PrefixCache, ttt: TTTConfig, key: jax.Array
  ) -> tuple[Params, Cost]:
    """Test-time training on the case's context (paper, Algorithm 1)."""
    with _clock() as clock:
      fast, _, history = adapt(self.model, self.params, cache, case.tokens, key, ttt)
      jax.block_until_ready(fast)
    work = flops.adapt(
        self.model.config, case.num_tokens, ttt.span, ttt.steps,
        [int(start) for start in history.start], ttt.span_kv)
    return fast, Cost((Phase('adapt', clock.seconds, clock.compiled, work),))

  def generate(
      self,
      case: Case,
      cache: PrefixCache,
      fast: Params | None,
      sampling: SamplingConfig,
      key: jax.Array,
  ) -> tuple[tuple[Prediction, ...], Cost]:
    """Answers all questions of the case in one batch; it thinks first if `sampling` says so."""
    thinks = sampling.thinking_budget is not None
    prompts = case.thinking_prompts if thinks else case.prompts
    with _clock() as clock:
      tokens, lengths = _batch(prompts, case.rows)
      out = generate(
          self.model, self.params, fast, cache, tokens, key, sampling, prompt_lengths=lengths)
      out = jax.tree.map(np.asarray, out)
    predictions, work = [], []
    for row, prompt in enumerate(prompts):
      length, thought = int(out.lengths[row]), int(out.thinking_lengths[row])
      ids = out.tokens[row, :length]
      answer = self.tokenizer.decode(ids[thought:], skip_special_tokens=True).strip()
      text = self.tokenizer.decode(ids, skip_special_tokens=True)
      predictions.append(Prediction(text, answer, length, thought))
      work.append(flops.decode(
          self.model.config, case.num_tokens, len(prompt), length, delta=fast is not None))
    phase = Phase('generate', clock.seconds, clock.compiled, question_flops=tuple(work))
    return tuple(predictions), Cost((phase,))

  def evidence_mass(
      self, case: Case, cache: PrefixCache, fast: Params | None
  ) -> tuple[float, ...]:
    """Attention mass on each question's evidence while its reference answer is predicted."""
    rows = [prompt + answer for prompt, answer in zip(case.prompts, case.answers)]
    tokens, lengths = _batch(rows, case.rows)
    evidence = np.zeros((case.rows, case.capacity), bool)
    for row, question in enumerate(case.example.questions):
      evidence[row, slice(*question.evidence)] = True
    mass = attention_mass(self.model, self.params, fast, cache, tokens, lengths, evidence)
    mass = np.asarray(mass).mean(axis=(1, 2))  # [rows, suffix tokens]
    means = []
    for row, (prompt, answer) in enumerate(zip(case.prompts, case.answers)):
      first = len(prompt) - 1  # the prompt's last token predicts the answer's first one
      means.append(float(mass[row, first : first + len(answer)].mean()))
    return tuple(means)


def _batch(rows, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Right-pads `rows` of ids to int32 [size, S], repeating the first row; and lengths [size]."""
  rows = list(rows) + [rows[0]] * (size - len(rows))
  lengths = np.array([len(row) for row in rows], np.int32)
  tokens = np.zeros((size, lengths.max()), np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return tokens, lengths
