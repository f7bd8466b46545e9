"""The model as strategies see it: prefill, adapt, generate and a mechanism hook, with their costs.

Shapes depend on capacity, rows and the sizes of the budget, not on the example,
so every program is compiled once per capacity.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import operator
import time

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from tttjax import flops, rows
from tttjax.attention.caches import PrefixCache, round_capacity
from tttjax.decode.beams import beam_search
from tttjax.decode.generation import Generation, generate
from tttjax.decode.prefilling import prefill
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.mechanism import attention_statistics, held_out_starts, span_losses
from tttjax.models.decoder import Decoder, Params
from tttjax.strategies.strategy import (
  Adaptation,
  Case,
  Cost,
  Ending,
  Mechanism,
  Phase,
  Prediction,
  Reading,
)
from tttjax.tasks.example import Example
from tttjax.tasks.protocol import Task
from tttjax.ttt.adaptation import adapt
from tttjax.ttt.full_parameters import full_ttt
from tttjax.ttt.hyperparameters import TTTConfig
from tttjax.ttt.weights import has_delta

# The narrowest batch of outputs that is measured, in tokens.
_FEWEST_TOKENS = 128
# Spans whose loss is compared before and after adaptation.
_HELD_OUT_SPANS = 4
_compilations = 0


def _count_compilations(event: str, duration: float, **unused) -> None:
  global _compilations
  _compilations += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count_compilations)


@dataclasses.dataclass
class _Clock:
  seconds: float = 0.0
  compiled: bool = False

  def phase(self, name: str, shared: int = 0, own: Sequence[int] = ()) -> Cost:
    return Cost((Phase(name, self.seconds, self.compiled, shared, tuple(own)),))


@contextlib.contextmanager
def _clock() -> Iterator[_Clock]:
  """Times its block and notes whether XLA compiled something inside it."""
  clock, before, start = _Clock(), _compilations, time.perf_counter()
  yield clock
  clock.seconds = time.perf_counter() - start
  clock.compiled = _compilations > before


@dataclasses.dataclass(frozen=True)
class Prefix:
  """A context that has been read: its cache, and the model that goes on from it."""

  model: Decoder
  cache: PrefixCache


class Engine:
  """Model, parameters and tokenizer, with the cost of every call.

  Attributes:
    trained_length: tokens of the longest context that the model was trained on.
  """

  def __init__(self, model: Decoder, params: Params, tokenizer, trained_length: int):
    self.model = model
    self.params = params
    self.tokenizer = tokenizer
    self.trained_length = trained_length
    # The last prefill: strategies in turn read the same context, and each is charged for it.
    self._prefilled: tuple[np.ndarray, int, Reading, Prefix, Cost] | None = None

  def free(self) -> None:
    """Lets go of the kept cache, after a failure."""
    self._prefilled = None

  def prefill(self, case: Case, reading: Reading = Reading()) -> tuple[Prefix, Cost]:
    """Reads the context once; the last context's cache is kept for the next strategy."""
    kept = self._prefilled
    if kept and kept[1:3] == (case.capacity, reading) and np.array_equal(kept[0], case.tokens):
      return kept[3:]
    self._prefilled = kept = None  # frees the old cache before the new one is built
    model = self.model if reading.rope else self.model.clone(rope=False)
    # Padding to the capacity keeps one shape; the length is an argument.
    pad = ((0, 0), (0, case.capacity - case.num_tokens))
    lengths = np.array([case.num_tokens], np.int32)
    positions = None
    if reading.stretch:
      positions = np.pad(case.example.stretched_positions(reading.stretch)[None], pad, mode="edge")
    with _clock() as clock:
      tokens = np.pad(case.tokens, pad)
      cache, _ = prefill(model, self.params, tokens, lengths, case.capacity, positions)
      jax.block_until_ready(cache)
    cost = clock.phase("prefill", flops.prefill(model.config, case.num_tokens))
    prefix = Prefix(model, cache)
    self._prefilled = (case.tokens, case.capacity, reading, prefix, cost)
    return prefix, cost

  def adapt(
    self,
    case: Case,
    prefix: Prefix,
    ttt: TTTConfig,
    key: jax.Array,
    starts: np.ndarray | None = None,
  ) -> tuple[Params | None, Adaptation, Cost]:
    """Test-time training on the case's context (paper, Algorithm 1).

    Returns:
      (fast weights, how it went, cost); None, the base weights, where a step was not finite.
    """
    with _clock() as clock:
      fast, _, history = adapt(
        prefix.model, self.params, prefix.cache, case.tokens, key, ttt, starts
      )
      jax.block_until_ready(fast)
    history = jax.tree.map(np.asarray, history)
    places = tuple(int(start) for start in history.start)
    work = flops.adapt(self.model.config, case.num_tokens, ttt.span, ttt.steps, places, ttt.span_kv)
    fallback = _not_finite(history, fast)
    adaptation = Adaptation(tuple(map(float, history.loss)), places, fallback)
    return None if fallback else fast, adaptation, clock.phase("adapt", work)

  def full_ttt(self, case: Case, ttt: TTTConfig) -> tuple["Engine", Adaptation, Cost]:
    """An engine whose every weight was trained on the case's context; this one if that failed."""
    pad = ((0, 0), (0, case.capacity - case.num_tokens))
    with _clock() as clock:
      # The span is static and has no part in this.
      params, history = full_ttt(
        self.model,
        self.params,
        np.pad(case.tokens, pad),
        np.array([case.num_tokens], np.int32),
        dataclasses.replace(ttt, span=1),
      )
      jax.block_until_ready(params)
    history = jax.tree.map(np.asarray, history)
    work = ttt.steps * flops.full_ttt_step(self.model.config, case.num_tokens)
    fallback = _not_finite(history, params)
    adaptation = Adaptation(tuple(map(float, history.loss)), (0,) * ttt.steps, fallback)
    # float32 weights: rounded to the base model's bfloat16 most of the change would be lost.
    model = self.model.clone(dtype=jnp.float32)
    trained = Engine(model, params, self.tokenizer, self.trained_length)
    return self if fallback else trained, adaptation, clock.phase("adapt", work)

  def generate(
    self,
    case: Case,
    prefix: Prefix,
    fast: Params | None,
    sampling: SamplingConfig,
    key: jax.Array,
    question_before: bool = False,
  ) -> tuple[tuple[Prediction, ...], Cost]:
    """Answers all questions of the case in one batch; it thinks first if `sampling` says so.

    Args:
      question_before: encode the question with the base weights.
    """
    prompts = _prompts(case, sampling)
    with _clock() as clock:
      tokens, lengths = _batch(prompts, case.rows, case.prompt_width)
      out = generate(
        prefix.model,
        self.params,
        fast,
        prefix.cache,
        tokens,
        key,
        sampling,
        prompt_lengths=lengths,
        question_before=question_before,
      )
      out = jax.tree.map(np.asarray, out)
    predictions = tuple(self._prediction(out, row, sampling) for row in range(case.num_questions))
    work = [
      flops.decode(
        self.model.config,
        case.num_tokens,
        len(prompt),
        prediction.tokens,
        has_delta(fast),
        plain_rows=len(prompt) - 1 if question_before else 0,
      )
      for prompt, prediction in zip(prompts, predictions)
    ]
    return predictions, clock.phase("generate", own=work)

  def sample(
    self, case: Case, prefix: Prefix, sampling: SamplingConfig, key: jax.Array, samples: int
  ) -> tuple[list[list[Prediction]], Cost]:
    """`samples` outputs of the base model for each question, all reading one cache in one batch."""
    prompts = _prompts(case, sampling)
    with _clock() as clock:
      tokens, lengths = _batch(prompts, case.rows, case.prompt_width)
      out = generate(
        prefix.model,
        self.params,
        None,
        prefix.cache,
        np.repeat(tokens, samples, axis=0),
        key,
        sampling,
        prompt_lengths=np.repeat(lengths, samples),
      )
      out = jax.tree.map(np.asarray, out)
    outputs = [
      [self._prediction(out, question * samples + i, sampling) for i in range(samples)]
      for question in range(case.num_questions)
    ]
    work = [
      sum(
        flops.decode(self.model.config, case.num_tokens, len(prompt), output.tokens, delta=False)
        for output in own
      )
      for prompt, own in zip(prompts, outputs)
    ]
    return outputs, clock.phase("generate", own=work)

  def beam(
    self, case: Case, prefix: Prefix, sampling: SamplingConfig, beams: int
  ) -> tuple[tuple[Prediction, ...], Cost]:
    """The likeliest output of each question that a search with `beams` beams finds."""
    prompts = _prompts(case, sampling)
    search = dataclasses.replace(sampling, temperature=0.0)  # it does not sample
    with _clock() as clock:
      tokens, lengths = _batch(prompts, case.rows, case.prompt_width)
      out = beam_search(
        prefix.model, self.params, None, prefix.cache, tokens, search, beams, prompt_lengths=lengths
      )
      out = jax.tree.map(np.asarray, out)
    predictions = tuple(
      dataclasses.replace(self._prediction(out, row, search), tokens=beams * int(out.steps[row]))
      for row in range(case.num_questions)
    )
    work = [
      flops.beam(self.model.config, case.num_tokens, len(prompt), int(steps), beams, delta=False)
      for prompt, steps in zip(prompts, out.steps)
    ]
    return predictions, clock.phase("generate", own=work)

  def _prediction(self, out: Generation, row: int, sampling: SamplingConfig) -> Prediction:
    length, thought = int(out.lengths[row]), int(out.thinking_lengths[row])
    if not np.isfinite(out.logprobs[row, :length]).all():
      raise FloatingPointError("the log-probabilities of the output are not finite")
    ids = out.tokens[row, :length]
    answer = self.tokenizer.decode(ids[thought:], skip_special_tokens=True).strip()
    text = self.tokenizer.decode(ids, skip_special_tokens=True)
    ids = tuple(map(int, ids))
    ending = _ending(ids, thought, sampling)
    return Prediction((text,), answer, length, thought, ids, (ending,))

  def measure(
    self,
    case: Case,
    prefix: Prefix,
    fast: Params | None,
    outputs: Sequence[Prediction] | None = None,
    adaptation: Adaptation | None = None,
    ttt: TTTConfig | None = None,
  ) -> tuple[Mechanism | None, ...]:
    """What the attention does to each question's evidence while an answer is produced.

    Args:
      outputs: measure while these are written, thoughts included; None: while the reference
        answers would be.
      adaptation, ttt: measure the loss of spans that it did not train on, too.

    Returns:
      One per question; None where it could not be measured: an answer is kept all the same.
    """
    try:
      return self._measure(case, prefix, fast, outputs, adaptation, ttt)
    except jax.errors.JaxRuntimeError as error:
      logging.warning("%s: not measured: %s", case.example.key, str(error).split("\n")[0])
      return (None,) * case.num_questions

  def _measure(self, case, prefix, fast, outputs, adaptation, ttt):
    if outputs is None:
      prompts, written, width = case.prompts, case.answers, case.answer_width
    else:
      prompts, written = case.thinking_prompts, [output.ids for output in outputs]
      longest = max(len(p) + len(w) for p, w in zip(prompts, written))
      width = max(_FEWEST_TOKENS, 1 << (longest - 1).bit_length())
    tokens, lengths = _batch([p + tuple(w) for p, w in zip(prompts, written)], case.rows, width)
    evidence = np.zeros((case.rows, case.capacity), bool)
    for row, question in enumerate(case.example.questions):
      for place in question.evidence:
        evidence[row, slice(*place)] = True
    statistics = jax.tree.map(
      np.asarray,
      attention_statistics(
        prefix.model, self.params, fast, prefix.cache, tokens, lengths, evidence
      ),
    )
    before, after = self._held_out(case, prefix, fast, adaptation, ttt)
    measured = []
    for row, (prompt, output) in enumerate(zip(prompts, written)):
      first = len(prompt) - 1  # the prompt's last token predicts the output's first one
      steps = slice(first, first + max(len(output), 1))
      mean = lambda x: float(x[row, :, :, steps].mean())
      by_layer = statistics.mass[row, :, :, steps].mean(axis=(1, 2))
      numbers = tuple(mean(x) for x in (statistics.mass, statistics.margin, statistics.lead))
      finite = np.isfinite([*numbers, *(x for x in (before, after) if x is not None)]).all()
      measured.append(
        Mechanism(
          *numbers,
          mass_by_layer=tuple(map(float, by_layer)),
          during="reference" if outputs is None else "output",
          heldout_before=before,
          heldout_after=after,
        )
        if finite
        else None
      )
    return tuple(measured)

  def _held_out(self, case, prefix, fast, adaptation, ttt) -> tuple[float | None, float | None]:
    if adaptation is None:
      return None, None
    starts = held_out_starts(
      adaptation.start, case.num_tokens, ttt.span, _HELD_OUT_SPANS, jax.random.key(0)
    )
    if not len(starts):
      return None, None
    same_shape = np.resize(starts, _HELD_OUT_SPANS)
    losses = (
      np.asarray(
        span_losses(
          prefix.model, self.params, weights, prefix.cache, case.tokens, same_shape, ttt.span
        )
      )
      for weights in (None, fast)
    )
    before, after = (float(loss[: len(starts)].mean()) for loss in losses)
    return before, after


def encode(tokenizer, text: str) -> tuple[int, ...]:
  """Token ids of `text`, which carries its own special tokens."""
  # Not verbose: that a text exceeds the tokenizer's model_max_length is said elsewhere.
  return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def make_case(example: Example, task: Task, tokenizer) -> Case:
  """Encodes an example, with sizes that hold it and no others."""
  ids = lambda texts: tuple(encode(tokenizer, text) for text in texts)
  questions = example.questions
  case = Case(
    example=example,
    tokens=np.array([encode(tokenizer, example.context)], np.int32),
    capacity=round_capacity(example.num_tokens),
    prompts=ids(q.text for q in questions),
    thinking_prompts=ids(q.thinking_text for q in questions),
    answers=ids(q.references[0] for q in questions),
    rows=len(questions),
    prompt_width=0,
    answer_width=0,
    extract=task.extract,
  )
  longest = lambda rows: max(map(len, rows))
  return dataclasses.replace(
    case,
    prompt_width=longest(case.prompts + case.thinking_prompts),
    answer_width=longest(map(operator.add, case.prompts, case.answers)),
  )


def _prompts(case: Case, sampling: SamplingConfig) -> tuple[tuple[int, ...], ...]:
  return case.prompts if sampling.thinking_budget is None else case.thinking_prompts


def _ending(ids: tuple[int, ...], thought: int, sampling: SamplingConfig) -> Ending:
  """How an output of which `thought` tokens are thinking ended."""
  answer = rows.STOP if ids[-1] in sampling.stop_ids else rows.LIMIT
  if sampling.thinking_budget is None:
    return Ending(answer, None)
  return Ending(answer, rows.FORCED if thought > sampling.thinking_budget else rows.CLOSED)


def _not_finite(history, weights: Params) -> str | None:
  """Which step failed, or that the weights did, in words; None where all is finite."""
  answered = "answered with the base weights"
  bad = np.flatnonzero(~history.ok)
  if bad.size:
    return (
      f"step {bad[0] + 1} of {history.ok.size} was not finite (loss {history.loss[bad[0]]}):"
      f" {answered}"
    )
  if not _all_finite(weights):
    return f"the weights after step {history.ok.size} were not finite: {answered}"
  return None


@jax.jit
def _all_finite(tree: Params) -> jax.Array:
  return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))


def _batch(rows, size: int, width: int) -> tuple[np.ndarray, np.ndarray]:
  """Right-pads `rows` of ids to int32 [size, width], repeating the first; and lengths [size]."""
  rows = list(rows) + [rows[0]] * (size - len(rows))
  lengths = np.array([len(row) for row in rows], np.int32)
  tokens = np.zeros((size, width), np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return tokens, lengths
