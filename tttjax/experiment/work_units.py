"""What a run has to do: contexts as token ids, made one by one as they are needed."""

from collections.abc import Iterator
import dataclasses
import functools
import itertools

import jax
import numpy as np

from tttjax.attention.caches import round_capacity
from tttjax.checkpoint import Checkpoint
from tttjax.checkpoint.tokenizers import encode
from tttjax.decode.end_markers import TextMarker, text_marker
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.experiment import spending
from tttjax.experiment.config import MOST_CONTEXTS, Plan
from tttjax.experiment.run_fields import SHARED_RANGE
from tttjax.session import Room
from tttjax.strategies.budget import Allowance, Lengths
from tttjax.strategies.case import Case, Decoding
from tttjax.tasks.example import Example
from tttjax.tasks.thinking_format import format_of
from tttjax.ttt.spans import sample_starts

_SEED_STRIDE = MOST_CONTEXTS + 3  # with room for the last one's control
# Tokens of a question and its answer that, with share_programs, one program serves.
_SHARED_PROMPT = 128


@dataclasses.dataclass(frozen=True, order=True)
class Place:
  """Which context of a run: `context` counts from 0 within (task, length, seed)."""

  task: str
  length: int
  seed: int
  context: int


@dataclasses.dataclass(frozen=True)
class Unit:
  """One context of a run, ready for every strategy.

  Attributes:
    place: which.
    case: the example as token ids.
    available: questions that the example has, of which the first ones are asked.
    allowances: by strategy.
    errors: by strategy, instead of an allowance: why it cannot be run on this example.
    key: random key of the context; strategies split it alike.
    own_program: whether its programs are sized for its length and questions, so that seconds are
      its own.
  """

  place: Place
  case: Case
  available: int
  allowances: dict[str, Allowance]
  errors: dict[str, str]
  key: jax.Array
  own_program: bool


class Work:
  """The contexts of a run for one of its models."""

  def __init__(self, plan: Plan, model: str):
    self._plan = plan
    self._checkpoint: Checkpoint = plan.models[model]
    self._example = functools.lru_cache(maxsize=4)(self._make_example)  # a context is its
    self._decoding = functools.lru_cache(maxsize=None)(self._make_decoding)  # neighbour's control
    texts = plan.config.thinking
    tokenizer = self._checkpoint.tokenizer  # its errors name its files
    try:
      self._thinking = format_of(tokenizer, texts.end, texts.forced_stop, texts.opener)
    except UserError as error:
      raise UserError(f"config.thinking.{error}") from None

  def places(self) -> Iterator[Place]:
    """All contexts: tasks outermost, then lengths, seeds, contexts."""
    config = self._plan.config
    for task, length, seed in itertools.product(self._plan.tasks, config.lengths, config.seeds):
      for context in range(self._plan.contexts(length)):
        yield Place(task, length, seed, context)

  def first_units(self) -> list[Unit]:
    """One context of every task and length, so that what cannot work is said at once.

    Raises:
      UserError: a budget, a span, an answer or a length that cannot work.
    """
    units = []
    seed = self._plan.config.seeds[0]
    for task, length in itertools.product(self._plan.tasks, self._plan.config.lengths):
      unit = self.unit(Place(task, length, seed, 0))
      for error in unit.errors.values():
        raise UserError(error)
      for strategy, allowed in unit.allowances.items():
        if allowed.thinking_tokens is not None:
          self._check_thinking(unit.case, strategy, allowed.thinking_tokens)
      units.append(unit)
    return units

  def unit(self, place: Place) -> Unit:
    """Makes one context.

    Raises:
      UserError: its task cannot make it, or a reference answer is longer than an answer may be.
    """
    plan = self._plan
    example = self._example(place)
    # The control's context is the next one, whether or not the run asks about it.
    control = dataclasses.replace(place, context=place.context + 1)
    case, other = self._case(place, example), self._case(control, self._example(control))
    case = dataclasses.replace(case, other=other)
    root = jax.random.fold_in(jax.random.key(place.seed), place.length)
    key = jax.random.fold_in(root, place.context)
    budget = spending.budget_of(plan, self._lengths(case, key))
    allowed, errors = {}, {}
    for strategy in plan.strategies:
      try:
        allowed[strategy] = spending.allowance(plan, budget, strategy)
      except UserError as reason:
        errors[strategy] = str(reason)
    own = case.capacity == self._capacity(case.num_tokens)
    own = own and case.room.prompts == self._most_questions(place.task)
    return Unit(place, case, len(example.questions), allowed, errors, key, own)

  def lengths(self, task: str, length: int) -> Lengths:
    """The lengths of a context before it is made; in a task's own unit, of one that is."""
    place = Place(task, length, self._plan.config.seeds[0], 0)
    if not self._plan.in_tokens:
      return self._lengths(self._case(place, self._example(place)), None)
    answer = self._plan.config.sampling.max_new_tokens or self._plan.tasks[task].answer_tokens
    return Lengths(self._checkpoint.config, length, spending.PROMPT_TOKENS, answer, length)

  def _make_example(self, place: Place) -> Example:
    """Seeds are those of (seed, context): the same needles in haystacks that grow."""
    seed = place.seed * _SEED_STRIDE + place.context
    task = self._plan.tasks[place.task]
    return task.at(seed, place.length, self._checkpoint.tokenizer, self._plan.in_tokens)

  def _case(self, place: Place, example: Example) -> Case:
    plan = self._plan
    task = plan.tasks[place.task]
    questions = example.questions[: plan.config.questions]
    example = dataclasses.replace(example, questions=questions)
    ids = lambda texts: tuple(encode(self._checkpoint.tokenizer, text) for text in texts)
    (tokens,) = ids([example.context])
    most = plan.config.sampling.max_new_tokens or max(q.max_new_tokens for q in questions)
    answers = ids(q.references[0] for q in questions)
    if (longest := max(map(len, answers))) > most:
      raise UserError(
        f"config.sampling.max_new_tokens={most} is less than the {longest} tokens of a reference"
        f" answer of {place.task}; raise it"
      )
    return Case(
      example=example,
      tokens=np.array([tokens], np.int32),
      capacity=max(self._shared_capacity(place), self._capacity(len(tokens))),
      prompts=ids(q.text for q in questions),
      thinking_prompts=ids(q.thinking_text + self._thinking.opener for q in questions),
      answers=answers,
      room=self._room(place.task),
      extract=task.extract,
      decoding=self._decoding(most),
    )

  def _lengths(self, case: Case, key: jax.Array | None) -> Lengths:
    starts = None
    if key is not None:
      span_key, _ = jax.random.split(key)  # as strategies do
      starts = functools.lru_cache(maxsize=None)(
        lambda context, span, steps: sample_starts(span_key, context, span, steps)
      )
    return Lengths(
      self._checkpoint.config,
      case.num_tokens,
      max(map(len, case.prompts + case.thinking_prompts)),
      case.decoding.answer.max_new_tokens,
      case.other.num_tokens if case.other else case.num_tokens,
      starts,
      cut_spans=not self._plan.in_tokens,
    )

  def _capacity(self, tokens: int) -> int:
    return round_capacity(tokens, self._plan.config.mesh.context)

  def _shared_capacity(self, place: Place) -> int:
    """Slots for the longest context whose programs a context of this length uses."""
    plan = self._plan
    if not plan.in_tokens:
      return 0  # by the tokens of each context
    length = place.length
    if plan.config.share_programs:
      length = _longest_shared(length, plan.config.lengths)
    return self._capacity(length)

  def _most_questions(self, task: str) -> int:
    return min(self._plan.config.questions, self._plan.tasks[task].most_questions)

  def _room(self, task: str) -> Room:
    """What question batches of a task are padded to: its own number of questions, or all tasks'."""
    if not self._plan.config.share_programs:
      return Room(self._most_questions(task))
    return Room(max(map(self._most_questions, self._plan.tasks)), _SHARED_PROMPT)

  @functools.cached_property
  def _end_marker(self) -> int | TextMarker:
    """The end of a thought: a token of its own where the tokenizer has one, else text."""
    checkpoint, end = self._checkpoint, self._thinking.end
    if end in checkpoint.tokenizer.get_added_vocab():
      return checkpoint.tokenizer.get_added_vocab()[end]
    return text_marker(end, checkpoint.tokenizer, checkpoint.config.vocab_size)

  def _make_decoding(self, answer_tokens: int) -> Decoding:
    """How answers of up to so many tokens are decoded."""
    config, checkpoint = self._plan.config, self._checkpoint
    sampling = {**config.sampling.to_dict(), "max_new_tokens": answer_tokens}
    answer = SamplingConfig(**sampling, stop_ids=checkpoint.stop_ids)
    thinking = SamplingConfig(
      max_new_tokens=answer_tokens,
      temperature=config.thinking.temperature,
      top_k=config.thinking.top_k,
      top_p=config.thinking.top_p,
      stop_ids=checkpoint.stop_ids,
      end_think=self._end_marker,
      forced_stop_ids=encode(checkpoint.tokenizer, self._thinking.forced_stop),
    )
    return Decoding(answer, thinking, checkpoint.config.max_positions, config.mechanism)

  def _check_thinking(self, case: Case, strategy: str, tokens: int) -> None:
    try:
      case.decoding.with_thoughts(tokens, case.num_tokens)
    except UserError as error:
      raise UserError(
        f"config.strategies: {strategy}: {error} (config.thinking.forced_stop, config.ttt.steps,"
        " config.thinking.budget)"
      ) from None


def _longest_shared(length: int, lengths) -> int:
  """The longest of the lengths that share programs with this one, less than SHARED_RANGE apart."""
  most = max(lengths)
  while length * SHARED_RANGE <= most:
    most = max(n for n in lengths if n * SHARED_RANGE <= most)
  return most
