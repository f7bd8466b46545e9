"""The loop over models, contexts and strategies; a unit of work is one strategy on one context."""

from collections.abc import Callable
import dataclasses
import hashlib
import json
import math
from typing import Any

import jax

from tttjax import spec
from tttjax.checkpoint import from_pretrained
from tttjax.embedded import EMBEDDED, TRAINED_CONTEXT
from tttjax.errors import UserError
from tttjax.experiment.config import Plan
from tttjax.experiment.progress import Progress
from tttjax.experiment.records import Samples
from tttjax.experiment.work import Item, ModelWork
from tttjax.rows import Row
from tttjax.session import Engine
from tttjax.strategies.strategy import Adaptation, Allowance, Decoding, Result, Strategy

_HEAD_CHARACTERS = 200
# What one example may raise and the run survive: too long, out of memory, not finite.
_EXAMPLE_ERRORS = (UserError, jax.errors.JaxRuntimeError, MemoryError, FloatingPointError)
_MAX_ERROR = 300


def load_engine(plan: Plan, name: str, tokenizer) -> Engine:
  """Loads the weights of one of the plan's models, onto its mesh where it has one."""
  checkpoint = plan.models[name].checkpoint
  model, params = from_pretrained(checkpoint, plan.mesh)
  trained = model.config.max_position_embeddings
  if checkpoint == EMBEDDED:
    trained = TRAINED_CONTEXT
  elif model.config.yarn is not None:
    trained = model.config.yarn.original_max_position_embeddings
  return Engine(model, params, tokenizer, trained)


def run(
  plan: Plan,
  work: dict[str, ModelWork],
  samples: Samples,
  progress: Progress,
  on_rows: Callable[[list[Row]], None],
) -> None:
  """Makes every row of the plan that `samples` does not hold yet; `on_rows` sees each unit's.

  The random key of a context depends on seed, length and index alone: neither on the strategy
  nor on what a resumed run has left to do. A model is loaded only if it has rows to make.
  """
  for name, model_work in work.items():
    engine = None
    for item in model_work.items:
      for strategy in plan.strategies:
        missing = [
          question
          for question in range(item.case.num_questions)
          if _key(item, strategy, question) not in samples.rows
        ]
        progress.start(item, strategy)
        if missing:
          if engine is None:
            engine = load_engine(plan, name, model_work.tokenizer)
          outcome = _outcome(plan, engine, model_work, item, strategy)
          rows = [_row(plan, item, strategy, question, outcome) for question in missing]
          for row in rows:
            samples.append(row)
          on_rows(rows)
        progress.finish(
          item,
          strategy,
          [
            samples.rows[_key(item, strategy, question)]
            for question in range(item.case.num_questions)
          ],
          len(missing),
        )


def _key(item: Item, strategy: str, question: int):
  return (item.model, item.task, strategy, item.seed, item.length, item.context, question)


@dataclasses.dataclass(frozen=True)
class _Outcome:
  """What became of one strategy on one context: a result, or the error."""

  allowance: Allowance | None
  decoding: Decoding | None
  result: Result | None
  error: str | None


def _outcome(plan: Plan, engine: Engine, work: ModelWork, item: Item, strategy: str) -> _Outcome:
  if strategy in item.errors:
    return _Outcome(None, None, None, item.errors[strategy])
  root = jax.random.fold_in(jax.random.key(item.seed), item.length)
  key = jax.random.fold_in(root, item.context)
  allowance, decoding = item.allowances[strategy], work.decoding_of(strategy, item)
  try:
    result = plan.strategies[strategy](engine, item.case, allowance, decoding, key)
  except _EXAMPLE_ERRORS as error:
    engine.free()
    text = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_ERROR]
    return _Outcome(allowance, decoding, None, text)
  return _Outcome(allowance, decoding, result, None)


def _sha256(text: str) -> str:
  return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _row(plan: Plan, item: Item, strategy: str, question: int, outcome: _Outcome) -> Row:
  """One prediction: lm-evaluation-harness's fields of a sample, then this project's."""
  case = item.case
  asked = case.example.questions[question]
  doc: dict[str, Any] = {
    "key": case.example.key,
    "context_sha256": _sha256(case.example.context),
    "context_head": case.example.context[:_HEAD_CHARACTERS],
    "context_tokens": case.num_tokens,
    "question": asked.text,
    "evidence": [list(place) for place in asked.evidence],
  }
  answer = outcome.result.predictions[question].answer if outcome.result else ""
  metrics = plan.tasks[item.task].score(answer, asked)
  return {
    "doc_id": _doc_id(plan, item, question),
    "doc": doc,
    "target": asked.references[0],
    "arguments": [[asked.text, _sampling(plan.strategies[strategy], outcome)]],
    "resps": [list(outcome.result.predictions[question].texts) if outcome.result else [""]],
    "filtered_resps": [answer],
    "filter": "none",
    "metrics": list(metrics),
    "doc_hash": _sha256(json.dumps(doc, sort_keys=True)),
    "target_hash": _sha256(asked.references[0]),
    **metrics,
    "model": item.model,
    "task": item.task,
    "strategy": strategy,
    "family": plan.strategies[strategy].name,
    "options": spec.options_of(plan.strategies[strategy]),
    "task_family": spec.taken_apart(item.task)[0],
    "task_options": spec.options_of(plan.tasks[item.task]),
    "chance": asked.chance,
    "slices": dict(asked.slices),
    "seed": item.seed,
    "length": item.length,
    "context": item.context,
    "question": question,
    **_spent(outcome, case.num_questions, question),
    "budget": _budget(outcome.allowance),
    "mechanism": _mechanism(outcome.result, question),
    "adaptation": _adaptation(outcome.result.adaptation if outcome.result else None),
    "error": outcome.error,
    "fallback": (
      outcome.result.adaptation.fallback if outcome.result and outcome.result.adaptation else None
    ),
  }


def _doc_id(plan: Plan, item: Item, question: int) -> int:
  """Counts the questions of a cell, seed by seed."""
  context = plan.config.seeds.index(item.seed) * plan.contexts(item.length) + item.context
  return context * plan.config.questions + question


def _sampling(strategy: Strategy, outcome: _Outcome) -> dict[str, Any]:
  if outcome.decoding is None:
    return {}
  sampling = outcome.decoding.answer
  if outcome.allowance.thinking_tokens is not None:
    sampling = outcome.decoding.thinking
  own = getattr(strategy, "temperature", None)
  return {
    "max_gen_toks": sampling.max_new_tokens,
    "temperature": sampling.temperature if own is None else own,
    "top_k": sampling.top_k,
    "top_p": sampling.top_p,
  }


def _budget(allowed: Allowance | None) -> dict[str, Any]:
  """What the strategy was given for a question after the prefill; zeros where it could not run."""
  if allowed is None:
    return {
      "steps": 0,
      "span": 0,
      "learning_rate": 0.0,
      "thinking_tokens": 0,
      "samples": 0,
      "flops": 0,
    }
  return {
    "steps": allowed.ttt.steps,
    "span": allowed.ttt.span,
    "learning_rate": allowed.ttt.learning_rate,
    "thinking_tokens": allowed.thinking_tokens or 0,
    "samples": allowed.samples,
    "flops": allowed.flops,
  }


def _spent(outcome: _Outcome, questions: int, question: int) -> dict[str, Any]:
  """What it used; nothing is known of an example that failed."""
  if outcome.result is None:
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
  prediction, cost = outcome.result.predictions[question], outcome.result.cost
  return {
    "endings": [dataclasses.asdict(ending) for ending in prediction.endings],
    "tokens": prediction.tokens,
    "thinking_tokens": float(prediction.thinking_tokens),
    "samples": outcome.allowance.samples,
    "flops": cost.flops(question),
    "amortised_flops": cost.amortised_flops(question, questions),
    "phase_flops": cost.phase_flops(question),
    # Of all questions of the context together: they are answered in one batch.
    "seconds": {name: round(value, 4) for name, value in cost.seconds().items()},
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
