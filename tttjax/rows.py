"""The schema of rows, which is all that what writes them and what reads them share.

A row is one prediction: one strategy's answer to one question about one context. It is a line of
JSON in DIR/samples_<time>.jsonl, with lm-evaluation-harness's fields of a sample (doc_id, doc,
target, arguments, resps, filtered_resps, ...) and these of this project's own:

  which        model, task, strategy (canonical specs), seed, length, context, question: the key;
               family and options of the strategy, task_family and task_options of the task
  what it saw  doc: key and sha256 of the context, its tokens and number of questions, the question,
               its references, and where the evidence stands; target, the first reference
  how good     metrics, the names of the scores, the primary one first; each score under its name,
               0 to 1; chance, the primary score of guessing; slices to split tables by
  what it cost tokens, thinking_tokens (per sample), samples, flops, amortised_flops, phase_flops,
               seconds by phase (of the whole context; {} where they say nothing about this
               length), compiled; budget: what it was given
  how it went  endings of each sample, mechanism, adaptation, error, fallback
"""

from collections.abc import Callable
import json
import math
import pathlib
from typing import Any

from tttjax import spec
from tttjax.errors import UserError

Row = dict[str, Any]
Key = tuple[str, str, str, int, int, int, int]
KEY = ("model", "task", "strategy", "seed", "length", "context", "question")

# How an answer ended, and what became of the thought before it (None: there was none).
STOP, LIMIT = "stop", "limit"
CLOSED, FORCED = "closed", "forced"


def key_of(row: Row) -> Key:
  """What makes a row unique within a run."""
  return tuple(row[name] for name in KEY)


def primary(row: Row) -> float:
  """The score that tables and figures show, 0 to 1."""
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
  for number, line in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n")[:-1], 1):
    try:
      row = _upgraded(json.loads(line))
      wrong = problem(row)
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


def problem(row: Any) -> str | None:
  """The first field that is missing or not what it should be, in words; None for a row."""
  if not isinstance(row, dict):
    return "it is not an object"
  for name, (fits, wanted) in _FIELDS.items():
    if name not in row:
      return f"it has no field {name!r}"
    if not fits(row[name]):
      return f"field {name!r} must be {wanted}, not {_short(row[name])}"
  for name in row["metrics"]:
    if not _is_share(row.get(name)):
      return f"the score {name!r} must be a number from 0 to 1, not {_short(row.get(name))}"
  return None


def _short(value: Any) -> str:
  text = json.dumps(value)
  return text if len(text) <= 40 else text[:37] + "..."


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _is_count(value: Any) -> bool:
  return type(value) is int and value >= 0


def _is_amount(value: Any) -> bool:
  return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _is_share(value: Any) -> bool:
  return type(value) in (int, float) and 0 <= value <= 1


def _is_texts(value: Any) -> bool:
  return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_amounts(value: Any) -> bool:
  return isinstance(value, dict) and all(map(_is_amount, value.values()))


def _is_ending(value: Any) -> bool:
  return (
    isinstance(value, dict)
    and value.get("answer") in (STOP, LIMIT)
    and value.get("thought") in (None, CLOSED, FORCED)
  )


def _object(**fields: Callable[[Any], bool]) -> Callable[[Any], bool]:
  """An object with at least these fields."""
  return lambda value: (
    isinstance(value, dict)
    and all(name in value and fits(value[name]) for name, fits in fields.items())
  )


def _maybe(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
  return lambda value: value is None or fits(value)


def _list_of(fits: Callable[[Any], bool], least: int = 0) -> Callable[[Any], bool]:
  return lambda value: isinstance(value, list) and len(value) >= least and all(map(fits, value))


_TEXT = _is_text, "text"
_COUNT = _is_count, "a whole number of at least 0"
_AMOUNT = _is_amount, "a number of at least 0"
_TEXTS = _is_texts, "an object of texts"
_DOC = _object(context_sha256=_is_text, context_tokens=_is_count, questions=_maybe(_is_count))
_BUDGET = _object(
  steps=_is_count,
  span=_is_count,
  learning_rate=_is_amount,
  thinking_tokens=_is_count,
  samples=_is_count,
  flops=_is_count,
)
_MECHANISM = _object(during=_is_text)
_ADAPTATION = _object(loss=lambda value: isinstance(value, list), start=_list_of(_is_count))
_MAYBE_TEXT = _maybe(_is_text), "text or null"

_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
  "model": _TEXT,
  "task": _TEXT,
  "strategy": _TEXT,
  "seed": _COUNT,
  "length": _COUNT,
  "context": _COUNT,
  "question": _COUNT,
  "family": _TEXT,
  "options": _TEXTS,
  "task_family": _TEXT,
  "task_options": _TEXTS,
  "doc": (_DOC, "an object with context_sha256, context_tokens and questions"),
  "target": _TEXT,
  "resps": (_list_of(_list_of(_is_text), 1), "a list of lists of texts"),
  "filtered_resps": (_list_of(_is_text, 1), "a list of texts"),
  "metrics": (_list_of(_is_text, 1), "a list of names"),
  "chance": (_maybe(_is_share), "a number from 0 to 1, or null"),
  "slices": _TEXTS,
  "endings": (_list_of(_is_ending), "a list of endings"),
  "tokens": _COUNT,
  "thinking_tokens": _AMOUNT,
  "samples": _COUNT,
  "flops": _COUNT,
  "amortised_flops": _AMOUNT,
  "phase_flops": (_is_amounts, "an object of numbers"),
  "seconds": (_is_amounts, "an object of numbers"),
  "compiled": (lambda value: isinstance(value, bool), "true or false"),
  "budget": (_maybe(_BUDGET), "null, or an object of numbers: steps, span, learning_rate, ..."),
  "mechanism": (_maybe(_MECHANISM), "null, or an object that says during what"),
  "adaptation": (_maybe(_ADAPTATION), "null, or an object of lists: loss, start"),
  "error": _MAYBE_TEXT,
  "fallback": _MAYBE_TEXT,
}


def _upgraded(row: Any) -> Any:
  """A row of version 0.1 with the fields that came later, as far as it says what they hold."""
  if not isinstance(row, dict) or "family" in row:
    return row
  later: Row = {"chance": None, "slices": {}, "endings": []}
  if isinstance(row.get("doc"), dict):
    later["doc"] = {"questions": None, **row["doc"]}
  for prefix, name in (("", "strategy"), ("task_", "task")):
    if _is_text(row.get(name)):
      later[f"{prefix}family"], later[f"{prefix}options"] = spec.taken_apart(row[name])
  return {**row, **later}
