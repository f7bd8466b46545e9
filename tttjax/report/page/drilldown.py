"""The drill-down: for some questions, what every strategy answered, and how its training went.

A limited sample, with what is worth a look first: failures, then questions on which strategies
disagree, then those that all answered wrong.
"""

from collections.abc import Hashable, Iterator, Sequence
import itertools
from typing import Any

from tttjax.report.labels import strategy_label, task_label
from tttjax.report.number_texts import count
from tttjax.report.page.markup import curve, render, strip
from tttjax.report.pairing import cluster_of
from tttjax.report.runs import Row, Run
from tttjax.rows import CLOSED, LIMIT, primary
from tttjax.strategies import STRATEGIES

# (contexts per length, questions per context, strategies per context) from most to least; the
# first whose page is small enough is taken.
_LIMITS = ((3, 3, 40), (3, 2, 20), (2, 2, 12), (1, 2, 10), (1, 1, 8))
_MAX_BYTES = 1_600_000
_MAX_EVIDENCE = 6  # places of one question that are quoted

_FAILED, _DISAGREE, _WRONG, _RIGHT = range(4)

Place = tuple[str, str, int]  # task, model, length
Labelled = Sequence[tuple[str, Row]]  # label of the run, row


def examples(runs: Sequence[Run], models: dict[str, str], units: dict[str, str]) -> str:
  """HTML of the sample, a part per task, model and length.

  Args:
    runs: all of them.
    models: labels.
    units: of the lengths, by task.
  """
  groups: dict[Place, dict[Hashable, list[tuple[str, Row]]]] = {}
  for run in runs:
    for row in run.rows:
      contexts = groups.setdefault((row["task"], row["model"], row["length"]), {})
      contexts.setdefault(cluster_of(row), []).append((run.label, row))
  for limits in _LIMITS:
    parts = [_length(place, found, limits, models, units) for place, found in groups.items()]
    html = render("examples.html.j2", parts=parts, left_out=0)
    if len(html) <= _MAX_BYTES:
      return html
  # The last limits are still too many: whole lengths are left out.
  sizes = itertools.accumulate(
    len(render("examples.html.j2", parts=[p], left_out=0)) for p in parts
  )
  kept = sum(size <= _MAX_BYTES for size in sizes)
  return render("examples.html.j2", parts=parts[:kept], left_out=len(parts) - kept)


def _length(place: Place, contexts, limits, models, units) -> dict[str, Any]:
  task, model, length = place
  ranks = {cluster: _ranks(labelled) for cluster, labelled in contexts.items()}
  chosen = sorted(contexts, key=lambda cluster: (min(ranks[cluster].values()), cluster))
  shown = [_context(c, contexts[c], ranks[c], limits) for c in chosen[: limits[0]]]
  title = (
    f"{task_label(task)}, {models[model]}, {length:,} {units[task]}: {len(shown)} of"
    f" {count(len(contexts), 'context')}"
  )
  return {"title": title, "contexts": shown, "rank": min(min(r.values()) for r in ranks.values())}


def _ranks(labelled: Labelled) -> dict[int, int]:
  """How much each question of a context is worth a look; the smaller the more."""
  by_question: dict[int, list[Row]] = {}
  for _, row in labelled:
    by_question.setdefault(row["question"], []).append(row)
  return {question: _rank(rows) for question, rows in by_question.items()}


def _rank(rows: Sequence[Row]) -> int:
  if any(row["error"] or row["fallback"] for row in rows):
    return _FAILED
  scores = {primary(row) for row in rows}
  if len(scores) > 1:
    return _DISAGREE
  return _RIGHT if scores == {1.0} else _WRONG


def _context(cluster, labelled: Labelled, ranks: dict[int, int], limits) -> dict[str, Any]:
  doc = labelled[0][1]["doc"]
  several = len({run for run, _ in labelled}) > 1
  by_strategy: dict[str, list[Row]] = {}
  for run, row in labelled:
    name = strategy_label(row["strategy"]) + (f" [{run}]" if several else "")
    by_strategy.setdefault(name, []).append(row)
  shown = dict(list(by_strategy.items())[: limits[2]])
  questions = sorted(ranks, key=lambda question: (ranks[question], question))
  # What all answered right says little beside anything else.
  questions = [q for q in questions if ranks[q] < _RIGHT][: limits[1]] or questions[:1]
  asked = [
    [(name, row) for name, rows in shown.items() for row in rows if row["question"] == question]
    for question in questions
  ]
  tokens = doc.get("context_tokens")
  evidence = dict.fromkeys(
    tuple(span) for _, row in labelled for span in row["doc"].get("evidence") or ()
  )
  return {
    "seed": cluster[0],
    "number": cluster[1],
    "tokens": tokens,
    "head": str(doc.get("context_head") or ""),
    "trained": list(_training(shown, tokens or 1, list(evidence))),
    "questions": [_question(answers) for answers in asked if answers],
    "left_out": len(by_strategy) - len(shown),
  }


def _training(by_strategy: dict[str, list[Row]], tokens: int, evidence) -> Iterator[dict[str, Any]]:
  """Loss curve and places of the spans of every strategy that trained on a context."""
  for name, rows in by_strategy.items():
    row = next((row for row in rows if row["adaptation"]), None)
    if row is None:
      continue
    loss = row["adaptation"].get("loss") or []
    finite = [value for value in loss if value is not None]
    elsewhere = getattr(STRATEGIES.get(row["family"]), "trains_elsewhere", False)
    starts, span = row["adaptation"].get("start") or [], (row["budget"] or {}).get("span") or 0
    yield {
      "name": name,
      "curve": curve(loss),
      "ends": (finite[0], finite[-1]) if finite else None,
      # Spans of another context have no place among this one's evidence.
      "strip": None if elsewhere else strip(tokens, evidence, starts, span),
    }


def _question(answers: Labelled) -> dict[str, Any]:
  first = answers[0][1]
  evidence = first["doc"].get("evidence_text") or []
  return {
    "text": " ".join(str(first["doc"].get("question", "")).split()),
    "target": first["target"],
    "evidence": evidence[:_MAX_EVIDENCE],
    "more_evidence": max(len(evidence) - _MAX_EVIDENCE, 0),
    "answers": [_answer(name, row) for name, row in answers],
    "masses": any((row["mechanism"] or {}).get("mass") is not None for _, row in answers),
  }


def _answer(name: str, row: Row) -> dict[str, Any]:
  answer, outputs = row["filtered_resps"][0].strip(), row["resps"][0]
  whole = outputs[0].strip() if outputs else ""
  return {
    "name": name,
    "score": primary(row),
    "error": row["error"],
    "fallback": row["fallback"],
    "answer": answer,
    "whole": whole if len(whole) > len(answer) + 8 else "",
    "samples": len(outputs),
    "endings": _endings(row["endings"]),
    "mass": (row["mechanism"] or {}).get("mass"),
  }


def _endings(endings: Sequence[dict[str, Any]]) -> list[str]:
  """How samples ended that did not end by themselves."""
  cut = sum(ending["answer"] == LIMIT for ending in endings)
  unclosed = sum(ending["thought"] not in (None, CLOSED) for ending in endings)
  of = f" ({{}} of {len(endings)} samples)" if len(endings) > 1 else ""
  return [
    words + of.format(number)
    for words, number in (("cut off at the longest output", cut), ("thought not closed", unclosed))
    if number
  ]
