"""A prediction as a row (tttjax.rows): what was asked, answered, spent and measured."""

import dataclasses
import hashlib
import json
import math
from typing import Any

from tttjax import spec
from tttjax.errors import UserError
from tttjax.experiment.config import Plan
from tttjax.experiment.work_units import Place, Unit
from tttjax.rows import Row
from tttjax.session import Adaptation, Session
from tttjax.strategies.budget import Allowance
from tttjax.strategies.strategy import Result, Strategy

_HEAD_CHARACTERS = 200
_EVIDENCE_CHARACTERS = 80  # on both sides
_EVIDENCE_TOKENS = 40  # that hold so many characters


def sha256(text: str) -> str:
  """The hash by which rows name their context."""
  return hashlib.sha256(text.encode("utf-8")).hexdigest()


def row_of(
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
    "context_sha256": sha256(case.example.context),
    "context_head": case.example.context[:_HEAD_CHARACTERS],
    "context_tokens": case.num_tokens,
    "questions": unit.available,
    "kept": case.example.kept,
    "question": asked.text,
    "question_key": asked.key,
    "source": dict(asked.source),
    "references": list(asked.references),
    "evidence": None if asked.evidence is None else [list(span) for span in asked.evidence],
    "evidence_text": [_surroundings(session, case.tokens[0], *s) for s in asked.evidence or ()],
  }
  result, error = (None, outcome) if isinstance(outcome, str) else (outcome, None)
  predicted = result.predictions[question] if result else None
  answer = predicted.answer if predicted else ""
  metrics = plan.tasks[place.task].score(answer, asked) if asked.references else {}
  target = asked.references[0] if asked.references else ""
  allowed, chosen = unit.allowances.get(strategy), plan.strategies[strategy]
  adaptation = result.adaptation if result else None
  return {
    "doc_id": _doc_id(place, question),
    "doc": doc,
    "target": target,
    "arguments": [[asked.text, _sampling(chosen, unit, allowed)]],
    "resps": [[output.text for output in predicted.outputs] if predicted else [""]],
    "filtered_resps": [answer],
    "filter": "none",
    "metrics": [*metrics],
    "doc_hash": sha256(json.dumps(doc, sort_keys=True)),
    "target_hash": sha256(target),
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
