"""The loop over models, contexts and strategies; a unit of work is one strategy on one context."""

from collections.abc import Iterable, Iterator
import contextlib
import dataclasses
import functools
import itertools
import time

import jax

from tttjax import interrupts, together
from tttjax.errors import UserError
from tttjax.experiment.config import Plan
from tttjax.experiment.device_groups import Group
from tttjax.experiment.row_of_prediction import row_of, sha256
from tttjax.experiment.samples import Samples
from tttjax.experiment.unfinished import resumable
from tttjax.experiment.work_units import Place, Unit, Work
from tttjax.rows import Row
from tttjax.session import Session
from tttjax.strategies.strategy import Result

# What one example may raise and the run survive: too long, out of memory, not finite.
_EXAMPLE_ERRORS = (UserError, jax.errors.JaxRuntimeError, MemoryError, FloatingPointError)
_MAX_ERROR = 300


@dataclasses.dataclass(frozen=True)
class Begun:
  """A context's turn has come: strategies that are not `missing` have answered it before."""

  model: str
  place: Place
  missing: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Started:
  """A unit of work begins; whether programs are compiled for it first."""

  place: Place
  strategy: str
  compiles: bool


@dataclasses.dataclass(frozen=True)
class Done:
  """A unit of work and its rows.

  `seconds` is its share of those that a batch took; None where something was compiled in them.
  """

  model: str
  place: Place
  strategy: str
  rows: tuple[Row, ...]
  seconds: float | None


Event = Begun | Started | Done


def run(plan: Plan, samples: Samples, group: Group) -> Iterator[Event]:
  """Makes every row of the plan that is the group's to make and that `samples` does not hold.

  The random key of a context depends on seed, length and index alone: neither on the strategy
  nor on what a resumed run has left to do. A context is made, and a model loaded, only if it has
  rows to make. After SIGTERM the units in hand are the last.

  Raises:
    UserError: an example is no longer the one that rows of it were made from.
  """
  programs = set()  # that ran before: what is new is compiled first
  size, attention = plan.config.batch_contexts, plan.config.attention
  for model in plan.models:
    work, sessions = Work(plan, model), []
    for places in _batches(group.share(work.places()), size):
      missing = {place: _missing(plan, samples, model, place) for place in places}
      for place in places:
        yield Begun(model, place, missing[place])
      units = [work.unit(place) for place in places if missing[place]]
      for unit in units:
        check_same(samples, model, unit)
      for strategy in plan.strategies:
        asked = [unit for unit in units if strategy in missing[unit.place]]
        if not asked:
          continue
        new = {(model, strategy, unit.case.capacity, len(asked)) for unit in asked} - programs
        programs |= new
        yield Started(asked[0].place, strategy, bool(new))
        began = time.monotonic()
        if not sessions:
          sessions = [Session.open(plan.models[model], group.mesh, attention=attention)]
          sessions += [sessions[0].beside() for _ in range(size - 1)]
        keeping = contextlib.nullcontext()
        if group.alone and size == 1:
          keeping = resumable(samples.path.parent, model, asked[0].place, strategy)
        answers = [
          functools.partial(_outcome, plan, session, unit, strategy, group)
          for session, unit in zip(sessions, asked)
        ]
        with keeping as sessions[0].unfinished:
          rows = [
            _rows(plan, samples, sessions[0], model, unit, strategy, outcome)
            for unit, outcome in zip(asked, together.run(answers))
          ]
          compiles = bool(new) or any(row["compiled"] for own in rows for row in own)
          spent = (time.monotonic() - began) / len(asked)
          for unit, own in zip(asked, rows):
            yield Done(model, unit.place, strategy, own, None if compiles else spent)
        if interrupts.asked():
          return


def _batches(places: Iterable[Place], size: int) -> Iterator[list[Place]]:
  """Up to `size` places that follow one another, of one task and length."""
  for _, alike in itertools.groupby(places, lambda place: (place.task, place.length)):
    while batch := list(itertools.islice(alike, size)):
      yield batch


def key(model: str, place: Place, strategy: str, question: int):
  """The key of a row (rows.KEY)."""
  return model, place.task, strategy, place.seed, place.length, place.context, question


def _missing(plan: Plan, samples: Samples, model: str, place: Place) -> tuple[str, ...]:
  """The strategies that have not answered every question about a context."""
  missing = []
  for strategy in plan.strategies:
    first = samples.rows.get(key(model, place, strategy, 0))
    asked = 1
    if first is not None:  # what was asked is known without making the example again
      asked = min(plan.config.questions, first["doc"]["questions"])
    if any(key(model, place, strategy, q) not in samples.rows for q in range(asked)):
      missing.append(strategy)
  return tuple(missing)


def _rows(
  plan: Plan,
  samples: Samples,
  session: Session,
  model: str,
  unit: Unit,
  strategy: str,
  outcome: Result | str,
) -> tuple[Row, ...]:
  """The rows of one strategy on one context that there are not yet."""
  return tuple(
    row_of(plan, session, model, unit, strategy, question, outcome)
    for question in range(unit.case.num_questions)
    if key(model, unit.place, strategy, question) not in samples.rows
  )


def check_same(samples: Samples, model: str, unit: Unit) -> None:
  """Raises UserError where rows of this context were made from another text."""
  digest = sha256(unit.case.example.context)
  old = samples.context_sha256(model, unit.place)
  if old is not None and old != digest:
    place = unit.place
    raise UserError(
      f"{samples.path}: context {place.context} of {place.task} at {place.length} (seed"
      f" {place.seed}) is not the one that its rows were made from: the task, its source or the"
      " tokenizer changed; use another --workdir"
    )


def _outcome(plan: Plan, session: Session, unit: Unit, strategy: str, group: Group) -> Result | str:
  """The result of one strategy on one context, or the error in words."""
  if strategy in unit.errors:
    return unit.errors[strategy]
  try:
    result = plan.strategies[strategy](session, unit.case, unit.allowances[strategy], unit.key)
  except Exception as error:
    # Where a process is gone the others' programs fail too, with errors of many kinds.
    group.agree("failed", f"whether {strategy} fails on {unit.place}")
    if not isinstance(error, _EXAMPLE_ERRORS):
      raise
    session.free()
    return " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_ERROR]
  outputs = [[output.ids for output in p.outputs] for p in result.predictions]
  group.agree(sha256(repr(outputs)), f"what {strategy} answers about {unit.place}")
  return result
