"""Invented rows of work directories, for the tests of what is a function of the rows."""

from collections.abc import Sequence
import json
import math
import pathlib
from typing import Any

import numpy as np

from tttjax import spec

Row = dict[str, Any]

# What a strategy adds to the log-odds of a right answer, so that tests know who is better.
_BOOST = {
  "thinking": 0.1,
  "qttt": 0.6,
  "qttt_other_context": 0.4,
  "self_consistency": -0.2,
  "beam": -0.3,
  "full_ttt": 0.3,
  "log_temperature": 0.2,
  "qttt_thinking": 0.5,
}


def row(
  strategy: str = "in_context", length: int = 256, context: int = 0, question: int = 0, **fields
) -> Row:
  """One row; `fields` override, those of `budget` and `mechanism` replace the whole."""
  task = fields.get("task", "bank_log")
  (family, options), (task_family, task_options) = map(spec.taken_apart, (strategy, task))
  adapts = "ttt" in family
  value = {
    "doc_id": context * 2 + question,
    "doc": {
      "key": f"log-{context}",
      "context_sha256": f"sha-{length}-{context}",
      "context_head": "<|im_start|>system\nYou audit <bank> logs & nothing else.",
      "context_tokens": length - 3,
      "questions": 2,
      "question": f"[QUESTION]\nBalance of account Q{question}?",
      "evidence": [[length // 3, length // 3 + 6], [length // 2, length // 2 + 3]],
    },
    "target": "12 34",
    "arguments": [["[QUESTION] Balance?", {"temperature": 0.0}]],
    "resps": [["12 34"]],
    "filtered_resps": ["12 34"],
    "filter": "none",
    "metrics": ["acc"],
    "doc_hash": "d",
    "target_hash": "t",
    "acc": 1.0,
    "model": "embedded",
    "task": task,
    "strategy": strategy,
    "family": family,
    "options": options,
    "task_family": task_family,
    "task_options": task_options,
    "chance": None,
    "slices": {},
    "endings": [{"answer": "stop", "thought": None}],
    "seed": 0,
    "length": length,
    "context": context,
    "question": question,
    "tokens": 4,
    "thinking_tokens": 0.0,
    "samples": 1,
    "budget": {
      "steps": 32 if adapts else 0,
      "span": 32 if adapts else 0,
      "learning_rate": 1e-3 if adapts else 0.0,
      "thinking_tokens": 0,
      "samples": 1,
      "flops": 10**6,
    },
    "flops": 10**9,
    "amortised_flops": 6e8,
    "phase_flops": {"prefill": 9 * 10**8, "adapt": 0, "generate": 10**8},
    "seconds": {"prefill": 0.1, "adapt": 0.0, "generate": 0.3},
    "compiled": False,
    "mechanism": None,
    "adaptation": None,
    "error": None,
    "fallback": None,
  }
  return {**value, **fields}


def failed(error: str, **fields) -> Row:
  """A row as the runner writes it for an example that failed."""
  return row(
    **{
      "acc": 0.0,
      "resps": [[""]],
      "filtered_resps": [""],
      "tokens": 0,
      "samples": 0,
      "flops": 0,
      "amortised_flops": 0.0,
      "phase_flops": {},
      "seconds": {},
      "endings": [],
      "budget": None,
      "error": error,
      **fields,
    }
  )


def rows(
  strategies: Sequence[str],
  lengths: Sequence[int],
  contexts: int = 6,
  questions: int = 2,
  task: str = "bank_log",
  model: str = "embedded",
  seeds: Sequence[int] = (0,),
  boost: float = 0.0,
  mechanism: bool = True,
  layers: int = 4,
  **budget,
) -> list[Row]:
  """A grid of plausible rows: accuracy falls with the length, contexts differ in difficulty."""
  made = []
  for seed in seeds:
    for length in lengths:
      for context in range(contexts):
        rng = np.random.default_rng([seed, context, 7])
        ease, uniform = rng.normal(0, 0.8), rng.uniform(size=questions)
        for strategy in strategies:
          own = np.random.default_rng(
            [seed, context, length, *map(ord, strategy), round(1e3 * abs(boost))]
          )
          for question in range(questions):
            made.append(
              _plausible(
                strategy,
                length,
                context,
                question,
                seed,
                ease,
                uniform[question],
                own,
                mechanism,
                layers,
                boost,
                budget,
                task,
              )
              | {"model": model}
            )
  return made


def _plausible(
  strategy,
  length,
  context,
  question,
  seed,
  ease,
  uniform,
  rng,
  mechanism,
  layers,
  boost,
  budget,
  task,
) -> Row:
  family = strategy.partition("(")[0]
  gain = _BOOST.get(family, 0.0) + (boost if family != "in_context" else 0.0)
  adapts, thinks = "ttt" in family, "think" in family or family in ("self_consistency", "beam")
  steps = budget.get("steps", 32) if adapts else 0
  logit = 4 - 1.2 * math.log2(length / 128) + ease + gain * math.log2(length / 128)
  right = uniform < 1 / (1 + math.exp(-logit + rng.normal(0, 0.3)))
  thought = budget.get("thinking_tokens", 900) if thinks else 0
  scale = length / 1024
  flops = {
    "prefill": int(1e9 * scale),
    "adapt": int(2e7 * steps * scale),
    "generate": int((1e7 + 1e6 * thought) * scale),
  }
  mass = 0.2 / math.sqrt(scale) / 4 * (1 + 0.2 * gain)
  fields = {
    "seed": seed,
    "task": task,
    "acc": float(right),
    "filtered_resps": ["12 34" if right else "99 <b>00</b>"],
    "resps": [["thoughts & more </think> 12 34" if thinks else "12 34"]],
    "tokens": thought + 4,
    "thinking_tokens": 0.8 * thought,
    "flops": sum(flops.values()),
    "amortised_flops": sum(flops.values()) / 2,
    "phase_flops": flops,
    "seconds": {
      name: round(value / 4e9 * (1 + 0.1 * rng.uniform()), 4) for name, value in flops.items()
    },
    "compiled": context == 0,
    "budget": {
      "steps": steps,
      "span": budget.get("span", 32) if adapts else 0,
      "learning_rate": budget.get("learning_rate", 1e-3) if adapts else 0.0,
      "thinking_tokens": thought,
      "samples": 8 if family == "self_consistency" else 1,
      "flops": flops["adapt"] + flops["generate"],
    },
  }
  if mechanism:
    fields["mechanism"] = {
      "mass": mass * rng.uniform(0.8, 1.2),
      "margin": math.log(mass / (1 - mass)) + rng.normal(),
      "lead": 5 - math.log2(scale * 4) + gain + rng.normal(),
      "during": "reference",
      "mass_by_layer": [mass * (1 + layer) / layers * 2 for layer in range(layers)],
      "heldout_before": 2.0 if adapts else None,
      "heldout_after": 2.0 - 0.1 * rng.uniform() if adapts else None,
    }
  if adapts:
    fields["adaptation"] = {
      "loss": [2.5 * math.exp(-i / 20) + 0.2 * rng.uniform() for i in range(steps)],
      "start": rng.integers(0, max(length - 40, 1), size=steps).tolist(),
    }
  return row(strategy, length, context, question, **fields)


def write(
  directory: pathlib.Path, some: Sequence[Row], stamp: str = "2025-01-02T03-04-05", **config
) -> pathlib.Path:
  """Writes a work directory and returns it."""
  directory.mkdir(parents=True, exist_ok=True)
  text = "".join(json.dumps(one) + "\n" for one in some)
  (directory / f"samples_{stamp}.jsonl").write_text(text, encoding="utf-8")
  settings = {
    "models": ["embedded"],
    "tasks": ["bank_log"],
    "unit": "tokens",
    "contexts": [6],
    "questions": 2,
    "seeds": [0],
    "ttt.steps": 32,
    "ttt.span": 32,
    "ttt.learning_rate": 1e-3,
    "smoke": False,
    **config,
  }
  (directory / "config.json").write_text(json.dumps(settings), encoding="utf-8")
  return directory
