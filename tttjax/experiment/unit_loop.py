"""The loop over models, contexts and strategies; a unit of work is one strategy on one context."""

from collections.abc import Callable

import jax

from tttjax.errors import UserError
from tttjax.experiment.config import Plan
from tttjax.experiment.progress import Progress
from tttjax.experiment.row_of_prediction import row_of, sha256
from tttjax.experiment.samples_file import Samples
from tttjax.experiment.work_units import Place, Unit, Work
from tttjax.rows import Row
from tttjax.session import Session
from tttjax.strategies.strategy import Result

# What one example may raise and the run survive: too long, out of memory, not finite.
_EXAMPLE_ERRORS = (UserError, jax.errors.JaxRuntimeError, MemoryError, FloatingPointError)
_MAX_ERROR = 300


def run(
  plan: Plan,
  samples: Samples,
  progress: Progress,
  on_rows: Callable[[list[Row]], None] = lambda rows: None,
) -> None:
  """Makes every row of the plan that `samples` does not hold yet; `on_rows` sees each unit's.

  The random key of a context depends on seed, length and index alone: neither on the strategy
  nor on what a resumed run has left to do. A context is made, and a model loaded, only if it has
  rows to make.

  Raises:
    UserError: an example is no longer the one that rows of it were made from.
  """
  for model in plan.models:
    work, session = Work(plan, model), None
    for place in work.places():
      missing = _missing(plan, samples, model, place)
      progress.begin(model, place, missing)
      if not missing:
        continue
      unit = work.unit(place)
      check_same(samples, model, unit)
      for strategy in missing:
        progress.start(unit, strategy)
        if session is None:
          session = Session.open(plan.models[model], plan.mesh)
        result = _outcome(plan, session, unit, strategy)
        rows = [
          row_of(plan, session, model, unit, strategy, question, result)
          for question in range(unit.case.num_questions)
          if key(model, place, strategy, question) not in samples.rows
        ]
        for row in rows:
          samples.append(row)
        on_rows(rows)
        progress.finish(unit, strategy, rows)


def key(model: str, place: Place, strategy: str, question: int):
  """The key of a row (rows.KEY)."""
  return model, place.task, strategy, place.seed, place.length, place.context, question


def _missing(plan: Plan, samples: Samples, model: str, place: Place) -> list[str]:
  """The strategies that have not answered every question about a context."""
  missing = []
  for strategy in plan.strategies:
    first = samples.rows.get(key(model, place, strategy, 0))
    asked = 1
    if first is not None:  # what was asked is known without making the example again
      asked = min(plan.config.questions, first["doc"]["questions"])
    if any(key(model, place, strategy, q) not in samples.rows for q in range(asked)):
      missing.append(strategy)
  return missing


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


def _outcome(plan: Plan, session: Session, unit: Unit, strategy: str) -> Result | str:
  """The result of one strategy on one context, or the error in words."""
  if strategy in unit.errors:
    return unit.errors[strategy]
  try:
    return plan.strategies[strategy](session, unit.case, unit.allowances[strategy], unit.key)
  except _EXAMPLE_ERRORS as error:
    session.free()
    return " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_ERROR]
