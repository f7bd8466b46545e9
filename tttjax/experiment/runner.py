"""The loop over models, contexts and strategies; a unit of work is one strategy on one context."""

from collections.abc import Callable
import dataclasses
import hashlib
import json
import math
from typing import Any

import jax

from tttjax import spec
from tttjax.errors import UserError
from tttjax.experiment.config import Plan
from tttjax.experiment.progress import Progress
from tttjax.experiment.records import Samples
from tttjax.experiment.work import Place, Unit, Work
from tttjax.rows import Row
from tttjax.session import Adaptation, Session
from tttjax.strategies.budget import Allowance
from tttjax.strategies.strategy import Result, Strategy

_HEAD_CHARACTERS = 200
_EVIDENCE_CHARACTERS = 80  # on both sides
_EVIDENCE_TOKENS = 40  # that hold so many characters
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
          _row(plan, session, model, unit, strategy, question, result)
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
  digest = _sha256(unit.case.example.context)
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


def _sha256(text: str) -> str:
  return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _row(
  plan: Plan,
  session: Session,
  model: str,
  unit: Unit,
  strategy: str,
  question: int,
  outcome: Result | str,
) -> Row:
  """One prediction (tttjax.rows): lm-evaluation-harness's fields of a sample, then our own."""
  case, place = unit.case, unit.place
  asked = case.example.questions[question]
  doc: dict[str, Any] = {
    "key": case.example.key,
    "context_sha256": _sha256(case.example.context),
    "context_head": case.example.context[:_HEAD_CHARACTERS],
    "context_tokens": case.num_tokens,
    "questions": unit.available,
    "question": asked.text,
    "references": list(asked.references),
    "evidence": None if asked.evidence is None else [list(span) for span in asked.evidence],
    "evidence_text": [_surroundings(session, case.tokens[0], *s) for s in asked.evidence or ()],
  }
  result, error = (None, outcome) if isinstance(outcome, str) else (outcome, None)
  predicted = result.predictions[question] if result else None
  answer = predicted.answer if predicted else ""
  metrics = plan.tasks[place.task].score(answer, asked)
  allowed, chosen = unit.allowances.get(strategy), plan.strategies[strategy]
  adaptation = result.adaptation if result else None
  return {
    "doc_id": _doc_id(place, question),
    "doc": doc,
    "target": asked.references[0],
    "arguments": [[asked.text, _sampling(chosen, unit, allowed)]],
    "resps": [[output.text for output in predicted.outputs] if predicted else [""]],
    "filtered_resps": [answer],
    "filter": "none",
    "metrics": list(asked.metrics),
    "doc_hash": _sha256(json.dumps(doc, sort_keys=True)),
    "target_hash": _sha256(asked.references[0]),
    **metrics,
    "model": model,
    "task": place.task,
    "strategy": strategy,
    "family": chosen.name,
    "options": spec.options_of(chosen),
    "task_family": spec.taken_apart(place.task)[0],
    "task_options": spec.options_of(plan.tasks[place.task]),
    "chance": asked.chance,
    "slices": dict(asked.slices),
    "seed": place.seed,
    "length": place.length,
    "context": place.context,
    "question": question,
    **_spent(result, unit, question),
    "budget": _budget(allowed),
    "mechanism": _mechanism(result, question),
    "adaptation": _adaptation(adaptation),
    "error": error,
    "fallback": adaptation.fallback if adaptation else None,
  }


def _surroundings(session: Session, tokens, begin: int, end: int) -> dict[str, str]:
  """What stands before, at and after the tokens [begin, end) of a context."""
  text = lambda a, b: session.tokenizer.decode(tokens[max(a, 0) : b])
  return {
    "before": text(begin - _EVIDENCE_TOKENS, begin)[-_EVIDENCE_CHARACTERS:],
    "text": text(begin, end),
    "after": text(end, end + _EVIDENCE_TOKENS)[:_EVIDENCE_CHARACTERS],
  }


def _doc_id(place: Place, question: int) -> int:
  """A number of its own for every question of a cell, the same however large the run grows."""
  return (place.seed * 100_000 + place.context) * 100 + question


def _sampling(strategy: Strategy, unit: Unit, allowed: Allowance | None) -> dict[str, Any]:
  if allowed is None:
    return {}
  try:
    sampling = strategy.sampling(unit.case, allowed)
  except UserError:
    return {}
  return {
    "max_gen_toks": sampling.max_new_tokens,
    "temperature": sampling.temperature,
    "top_k": sampling.top_k,
    "top_p": sampling.top_p,
  }


def _budget(allowed: Allowance | None) -> dict[str, Any] | None:
  """What the strategy was given for a question after the prefill; None where it could not run."""
  return allowed and {
    "steps": allowed.ttt.steps,
    "span": allowed.ttt.span,
    "learning_rate": allowed.ttt.learning_rate,
    "thinking_tokens": allowed.thinking_tokens or 0,
    "samples": allowed.samples,
    "flops": allowed.flops,
  }


def _spent(result: Result | None, unit: Unit, question: int) -> dict[str, Any]:
  """What it used; nothing is known of an example that failed."""
  if result is None:
    return {
      "endings": [],
      "tokens": 0,
      "thinking_tokens": 0.0,
      "samples": 0,
      "flops": 0,
      "amortised_flops": 0.0,
      "phase_flops": {},
      "seconds": {},
      "compiled": False,
    }
  prediction, cost = result.predictions[question], result.cost
  seconds = {name: round(value, 4) for name, value in cost.seconds().items()}
  return {
    "endings": [dataclasses.asdict(ending) for ending in prediction.endings],
    "tokens": prediction.tokens,
    "thinking_tokens": float(prediction.thinking_tokens),
    "samples": len(prediction.outputs),
    "flops": cost.flops(question),
    "amortised_flops": cost.amortised_flops(question, unit.case.num_questions),
    "phase_flops": cost.phase_flops(question),
    # Of all questions of the context together: they are answered in one batch. Programs that are
    # sized for a longer context say nothing about the seconds of this one.
    "seconds": seconds if unit.own_program else {},
    "compiled": cost.compiled,
  }


def _mechanism(result: Result | None, question: int) -> dict[str, Any] | None:
  if result is None or result.mechanism is None or result.mechanism[question] is None:
    return None
  return dataclasses.asdict(result.mechanism[question])


def _adaptation(adaptation: Adaptation | None) -> dict[str, Any] | None:
  if adaptation is None:
    return None
  loss = [round(x, 6) if math.isfinite(x) else None for x in adaptation.loss]
  return {"loss": loss, "start": list(adaptation.start)}
