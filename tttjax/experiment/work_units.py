"""What a run has to do: contexts as token ids, made one by one as they are needed."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import functools
import itertools

import jax

from tttjax.attention.caches import round_capacity
from tttjax.checkpoint import Checkpoint
from tttjax.checkpoint.tokenizers import encode
from tttjax.errors import UserError
from tttjax.experiment import spending
from tttjax.experiment.config import Plan
from tttjax.experiment.run_fields import SHARED_RANGE
from tttjax.session import Room
from tttjax.session.values import Ids
from tttjax.strategies.budget import Allowance, Lengths
from tttjax.strategies.case import Case, Decoding
from tttjax.strategies.model_decoding import decoding_of
from tttjax.tasks.example import Example
from tttjax.tasks.prompt_tokens import encode_prompts
from tttjax.tasks.thinking_format import format_of
from tttjax.ttt.spans import sample_starts

_TEMPLATE_TOKENS = 64  # at most, of a chat template
_ROUNDED = 64  # tokens of a question about a document, so that few programs serve all
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
    self._limit = functools.lru_cache(maxsize=None)(self._find_limit)
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
      for context in range(self._plan.number(task, length)):
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
    case = self._case(place, example)
    if (number := plan.contexts[place.task].other(place.context)) is not None:
      control = dataclasses.replace(place, context=number)
      case = dataclasses.replace(case, other=self._case(control, self._example(control)))
    root = jax.random.fold_in(jax.random.key(place.seed), place.length)
    key = jax.random.fold_in(root, place.context)
    budget = spending.budget_of(plan, self._lengths(place.task, case, key))
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
    source = self._plan.contexts[task]
    if not self._plan.in_tokens:
      return self._lengths(task, self._case(place, self._example(place)), None)
    tokens = source.typical(self._limit(task, length))
    answer = self._plan.config.sampling.max_new_tokens or source.answer_tokens
    return Lengths(
      self._checkpoint.config,
      tokens,
      spending.PROMPT_TOKENS,
      answer,
      tokens,
      cut_spans=source.any_length,
    )

  def _find_limit(self, task: str, length: int) -> int:
    """`length`, or of documents what the model has positions for, if that is less."""
    source, architecture = self._plan.contexts[task], self._checkpoint.config
    if not source.any_length:
      return length
    answer = self._plan.config.sampling.max_new_tokens or source.answer_tokens
    longest = min(length, architecture.max_positions)
    lengths = Lengths(
      architecture, longest, spending.PROMPT_TOKENS, answer, longest, cut_spans=True
    )
    budget = spending.budget_of(self._plan, lengths)
    thoughts = 0
    for strategy in self._plan.strategies.values():
      with contextlib.suppress(UserError):  # said of each context
        thoughts = max(thoughts, strategy.allowance(budget).thinking_tokens or 0)
    # What is matched to a context a little shorter may be a little more.
    after = answer + thoughts + thoughts // 32 + _TEMPLATE_TOKENS
    return max(min(longest, architecture.max_positions - after), 1)

  def _make_example(self, place: Place) -> Example:
    source = self._plan.contexts[place.task]
    limit = self._limit(place.task, place.length)
    return source.at(place.seed, place.context, limit, self._checkpoint.tokenizer)

  def _case(self, place: Place, example: Example) -> Case:
    plan = self._plan
    task = plan.tasks[place.task]
    questions = example.questions[: plan.config.questions]
    tokenizer = self._checkpoint.tokenizer
    # With the questions that are not asked (yet) too: the cut is the same when the run has grown.
    ids = encode_prompts(tokenizer, example, self._thinking.opener)
    example = dataclasses.replace(example, questions=questions)
    limits = tuple(plan.config.sampling.max_new_tokens or q.max_new_tokens for q in questions)
    answers = tuple(encode(tokenizer, q.references[0] if q.references else "") for q in questions)
    made = not plan.contexts[place.task].any_length
    for limit, answer in zip(limits, answers) if made else ():
      if len(answer) > limit:
        raise UserError(
          f"config.sampling.max_new_tokens={limit} is less than the {len(answer)} tokens of a"
          f" reference answer of {place.task}; raise it"
        )
    return Case(
      example=example,
      tokens=ids.context[None],
      capacity=max(self._shared_capacity(place), self._capacity(len(ids.context))),
      prompts=ids.prompts[: len(questions)],
      thinking_prompts=ids.thinking_prompts[: len(questions)],
      answers=answers,
      room=self._room(place.task, ids.prompts[: len(questions)]),
      extract=task.extract,
      decoding=self._decoding(limits),
    )

  def _lengths(self, task: str, case: Case, key: jax.Array | None) -> Lengths:
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
      cut_spans=not self._plan.in_tokens or self._plan.contexts[task].any_length,
    )

  def _capacity(self, tokens: int) -> int:
    return round_capacity(tokens, self._plan.config.mesh.context)

  def _shared_capacity(self, place: Place) -> int:
    """Slots for the longest context whose programs a context of this length uses."""
    plan = self._plan
    any_length, shared = plan.contexts[place.task].any_length, plan.config.share_programs
    if not plan.in_tokens or any_length and not shared:
      return 0  # by the tokens of each context
    if any_length:
      return self._capacity(self._limit(place.task, place.length))
    length = place.length
    if shared:
      length = _longest_shared(length, plan.config.lengths)
    return self._capacity(length)

  def _most_questions(self, task: str) -> int:
    return min(self._plan.config.questions, self._plan.contexts[task].most_questions)

  def _room(self, task: str, prompts: Sequence[Ids]) -> Room:
    """What question batches of a task are padded to: its own number of questions, or all tasks'.

    Those of documents, which differ from one to the next, are rounded up.
    """
    tokens = 0
    if self._plan.contexts[task].any_length:
      tokens = -(-max(map(len, prompts)) // _ROUNDED) * _ROUNDED
    if self._plan.config.share_programs:
      most = max(map(self._most_questions, self._plan.tasks))
      return Room(most, max(tokens, _SHARED_PROMPT))
    return Room(
      1 << (len(prompts) - 1).bit_length() if tokens else self._most_questions(task), tokens
    )

  def _make_decoding(self, answer_tokens: tuple[int, ...]) -> Decoding:
    """How answers of up to so many tokens, one number a question, are decoded."""
    config, names = self._plan.config, ("temperature", "top_k", "top_p")
    answering, thinking = (
      {name: part[name] for name in names} for part in (config.sampling, config.thinking)
    )
    return decoding_of(
      self._checkpoint, self._thinking, answer_tokens, answering, thinking, config.mechanism
    )

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
