"""The loop over models, contexts and strategies; a unit of work is one strategy on one context."""

from collections.abc import Iterator
import dataclasses
import time

import jax

from tttjax import interrupts
from tttjax.errors import UserError
from tttjax.experiment.config import Plan
from tttjax.experiment.device_groups import Group
from tttjax.experiment.row_of_prediction import row_of, sha256
from tttjax.experiment.samples import Samples
from tttjax.experiment.unfinished import UnfinishedAdaptations
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
  """A unit of work and its rows; `seconds` is None where something was compiled in them."""

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
  rows to make. After SIGTERM the unit in hand is the last.

  Raises:
    UserError: an example is no longer the one that rows of it were made from.
  """
  programs = set()  # that ran before: what is new is compiled first
  for model in plan.models:
    work, session = Work(plan, model), None
    for place in group.share(work.places()):
      missing = _missing(plan, samples, model, place)
      yield Begun(model, place, missing)
      if not missing:
        continue
      unit = work.unit(place)
      check_same(samples, model, unit)
      for strategy in missing:
        program = model, strategy, unit.case.capacity
        compiles = program not in programs
        programs.add(program)
        yield Started(place, strategy, compiles)
        began = time.monotonic()
        if session is None:
          session = Session.open(plan.models[model], group.mesh)
        unfinished = None
        if group.alone:
          unfinished = UnfinishedAdaptations(samples.path.parent, model, place, strategy)
        session.unfinished = unfinished
        result = _outcome(plan, session, unit, strategy, group)
        rows = tuple(
          row_of(plan, session, model, unit, strategy, question, result)
          for question in range(unit.case.num_questions)
          if key(model, place, strategy, question) not in samples.rows
        )
        compiles |= any(row["compiled"] for row in rows)
        spent = time.monotonic() - began
        if unfinished:
          unfinished.remove()
        yield Done(model, place, strategy, rows, None if compiles else spent)
        if interrupts.asked():
          return


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
