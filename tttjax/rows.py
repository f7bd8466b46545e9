"""The schema of rows: all that the code which writes them and the code which reads them share.

A row is one prediction: one strategy's answer to one question about one context. It is a line of
JSON in DIR/samples_<time>.jsonl, with lm-evaluation-harness's fields of a sample (doc_id, doc,
target, arguments, resps, filtered_resps, ...) and these of this project's own:

  which        model, task, strategy (canonical specs), seed, length, context, question: the key;
               family and options of the strategy, task_family and task_options of the task
  what it saw  doc: key and sha256 of the context, its tokens and number of questions, the share of
               the source that was kept, the question and its key there, its references, and where
               the evidence stands; target, the first reference
  how good     metrics, the names of the scores, the primary one first, none where the references
               are not public; each score under its name,
               0 to 1; chance, the primary score of guessing; slices to split tables by
  what it cost tokens, thinking_tokens (per sample), samples, flops, amortised_flops, phase_flops,
               seconds by phase (of the whole context; {} where they say nothing about this
               length), compiled; budget: what it was given
  how it went  endings of each sample, mechanism, adaptation, error, fallback
"""

import json
import pathlib
from typing import Any

from tttjax import spec
from tttjax.errors import UserError
from tttjax.json_fields import (
  AMOUNT,
  ANY_TEXT,
  COUNT,
  FLAG,
  LENGTH,
  NUMBER,
  POSITIVE,
  SHARE,
  TEXT,
  fields,
  is_share,
  is_whole,
  list_of,
  maybe,
  must_be,
  one_of,
  short,
  values,
)

Row = dict[str, Any]
Key = tuple[str, str, str, int, int, int, int]
KEY = ("model", "task", "strategy", "seed", "length", "context", "question")

# How an answer ended, and what became of the thought before it (None: there was none): the model
# closed it, its budget did, or the output stopped within it, which older rows call closed.
STOP, LIMIT = "stop", "limit"
CLOSED, FORCED, OPEN = "closed", "forced", "open"


def key_of(row: Row) -> Key:
  """What makes a row unique within a run."""
  return tuple(row[name] for name in KEY)


def primary(row: Row) -> float:
  """The score that tables and figures show, 0 to 1; of a row that has scores."""
  return float(row[row["metrics"][0]])


def parse(path: pathlib.Path, data: bytes) -> dict[Key, Row]:
  """The rows in `data`, by key and in order; what follows the last line break is left out.

  Args:
    path: where they were read from, named in errors.
    data: lines of JSON.

  Raises:
    UserError: a line that is not a row, or a row that stands there twice.
  """
  rows: dict[Key, Row] = {}
  layers: dict[str, int] = {}
  asked: dict[tuple, tuple] = {}
  for number, line in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n")[:-1], 1):
    try:
      row = _upgraded(json.loads(line, parse_constant=_refused, object_pairs_hook=_distinct))
      wrong = problem(row) or _other_layers(row, layers) or _other_question(row, asked)
    except (ValueError, RecursionError):
      wrong = "it is not JSON"
    if wrong:
      raise UserError(
        f"{path}: line {number} is not a row of samples: {wrong}; delete that line, and the run"
        " computes it again"
      )
    key = key_of(row)
    if key in rows:
      name = ", ".join(f"{field}={value}" for field, value in zip(KEY, key))
      raise UserError(f"{path}: line {number} repeats a row ({name}); delete that line")
    rows[key] = row
  return rows


def _other_layers(row: Row, layers: dict[str, int]) -> str | None:
  """What is wrong where a model has other layers than before: a cell takes their means."""
  own = len((row["mechanism"] or {}).get("mass_by_layer") or ())
  before = layers.setdefault(row["model"], own) if own else 0
  if own == before:
    return None
  return f"field 'mechanism.mass_by_layer' has {own} layers, {before} in the rows above"


def _other_question(row: Row, asked: dict[tuple, tuple]) -> str | None:
  """What is wrong where strategies were asked different things under one name: they are paired."""
  place = tuple(row[name] for name in KEY if name != "strategy")
  own = row["doc"]["context_sha256"], row["target"], row["metrics"]
  before = asked.setdefault(place, own)
  names = ("doc.context_sha256", "target", "metrics")
  different = [name for name, a, b in zip(names, own, before) if a != b]
  if not different:
    return None
  return f"field {different[0]!r} is not what rows above have for this question"


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """An object whose names are different ones; the parser itself takes the last of equal ones."""
  made = dict(pairs)
  if len(made) < len(pairs):
    raise ValueError("a name stands twice in an object")
  return made


def _refused(text: str) -> None:
  raise ValueError(f"{text} is no JSON")


def problem(row: Any) -> str | None:
  """The first field that is missing or not what it should be, in words; None for a row."""
  if wrong := _ROW("", row):
    return wrong
  for name in row["metrics"]:
    if not is_share(row.get(name)):
      return f"the score {name!r} must be a number from 0 to 1, not {short(row.get(name))}"
  for name, prefix in (("strategy", ""), ("task", "task_")):
    family, options = f"{prefix}family", f"{prefix}options"
    if (row[family], row[options]) != spec.taken_apart(row[name]):
      return f"fields {family!r} and {options!r} are not those of {name} {short(row[name])}"
  if row["budget"] is None and row["error"] is None:
    return "field 'budget' must be an object in a row without an error, not null"
  return None


def _is_span(value: Any) -> bool:
  return (
    isinstance(value, list)
    and len(value) == 2
    and all(map(is_whole, value))
    and value[0] <= value[1]
  )


_REASON = maybe(must_be("null, or text that says why", lambda value: value and type(value) is str))
_DOC = fields(
  {"context_sha256": ANY_TEXT, "context_tokens": POSITIVE, "questions": maybe(POSITIVE)},
  {
    "context_head": ANY_TEXT,
    "kept": SHARE,
    "question_key": ANY_TEXT,
    "source": values(ANY_TEXT),
    "question": ANY_TEXT,
    "evidence": maybe(list_of(must_be("[begin, end) in tokens", _is_span))),
    "evidence_text": list_of(fields({"before": ANY_TEXT, "text": ANY_TEXT, "after": ANY_TEXT})),
  },
)
_BUDGET = fields(
  {
    "steps": COUNT,
    "span": COUNT,
    "learning_rate": AMOUNT,
    "thinking_tokens": COUNT,
    "samples": COUNT,
    "flops": COUNT,
  }
)
_MECHANISM = fields(
  {"during": ANY_TEXT},
  {
    "mass": maybe(SHARE),
    "mass_by_layer": maybe(list_of(SHARE)),
    **dict.fromkeys(
      ("margin", "lead", "heldout_before", "heldout_after", "reference_logprob"), maybe(NUMBER)
    ),
  },
)
_ENDING = fields({"answer": one_of(STOP, LIMIT), "thought": one_of(None, CLOSED, FORCED, OPEN)})
_ROW = fields(
  {
    "model": TEXT,
    "task": TEXT,
    "strategy": TEXT,
    "seed": COUNT,
    "length": LENGTH,
    "context": COUNT,
    "question": COUNT,
    "family": ANY_TEXT,
    "options": values(ANY_TEXT),
    "task_family": ANY_TEXT,
    "task_options": values(ANY_TEXT),
    "doc": _DOC,
    "target": ANY_TEXT,
    "resps": list_of(list_of(ANY_TEXT), 1),
    "filtered_resps": list_of(ANY_TEXT, 1),
    "metrics": list_of(ANY_TEXT),
    "chance": maybe(SHARE),
    "slices": values(ANY_TEXT),
    "endings": list_of(_ENDING),
    "tokens": COUNT,
    "thinking_tokens": AMOUNT,
    "samples": COUNT,
    "flops": COUNT,
    "amortised_flops": AMOUNT,
    "phase_flops": values(AMOUNT),
    "seconds": values(AMOUNT),
    "compiled": FLAG,
    "budget": maybe(_BUDGET),
    "mechanism": maybe(_MECHANISM),
    "adaptation": maybe(fields({"loss": list_of(maybe(NUMBER)), "start": list_of(COUNT)})),
    "error": _REASON,
    "fallback": _REASON,
  }
)


def _upgraded(row: Any) -> Any:
  """A row of version 0.1 with the fields that came later, as far as it says what they hold."""
  if not isinstance(row, dict) or "family" in row:
    return row
  later: Row = {"chance": None, "slices": {}, "endings": []}
  if isinstance(row.get("doc"), dict):
    later["doc"] = {"questions": None, **row["doc"]}
  for prefix, name in (("", "strategy"), ("task_", "task")):
    if isinstance(row.get(name), str):
      later[f"{prefix}family"], later[f"{prefix}options"] = spec.taken_apart(row[name])
  return {**row, **later}
