"""Values for the templates, and the one environment that renders them.

Everything is escaped by the templates: what comes from a model, a file or a path is text.
"""

import base64
from collections.abc import Iterable, Sequence
import dataclasses
import hashlib
import math
import re
from typing import Any

import jinja2

from tttjax.report.number_texts import p_text, plus_minus, scientific
from tttjax.report.statistics import Estimate

_CURVE = (150, 34)  # pixels
_STRIP = (260, 16)
_LONGEST_CURVE = 200  # points drawn
# The marks of chat templates, with the roles they name, and of thoughts, as models of several
# families write them.
_CHAT = re.compile(
  r"(<\|im_start\|>\w*|<\|[^|<>\s]{1,40}\|>|</?(?:think|s|bos|eos|start_of_turn|end_of_turn)>|\[/?INST\])"
)
# HTML has no control characters; what a model wrote of them is shown by their pictures.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {
  0x7F: 0x2421,
  **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
  **dict.fromkeys(range(0xD800, 0xE000), 0xFFFD),  # halves of pairs, which UTF-8 cannot write
}


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of a table.

  Attributes:
    head: short.
    about: what it holds, in words for those who do not know the head; '' where it needs none.
    text: set to the left; numbers are set to the right.
    main: what the line is about, which stays in sight when the table is scrolled sideways.
  """

  head: str
  about: str = ""
  text: bool = False
  main: bool = False


@dataclasses.dataclass(frozen=True)
class Value:
  """What stands in a table.

  Attributes:
    text: of any origin.
    key: the number that it is sorted by; None to sort by the text.
    code: whether it is set as code.
  """

  text: str
  key: float | None = None
  code: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of as many values as there are columns; `breaks` are rows with a rule above them."""

  columns: Sequence[Column]
  rows: Sequence[Sequence[Value]]
  breaks: frozenset[int] = frozenset()


EMPTY = Value("")


def signed(text: str) -> str:
  """+- as one sign, in what this package writes itself."""
  return text.replace("+-", "±")


def minus(text: str) -> str:
  """A number with the sign for minus, as wide as a plus."""
  return text.replace("-", "−")


def estimate(value: Estimate | None, sign: str = "") -> Value:
  """'0.812 ± 0.031', sorted by the mean."""
  if value is None:
    return EMPTY
  return Value(minus(signed(plus_minus(value, sign))), _key(value.mean))


def number(value: float, form: str = ",") -> Value:
  """A number in a format; nothing where there is none."""
  return Value(minus(format(value, form)), float(value)) if math.isfinite(value) else EMPTY


def power(value: float) -> Value:
  """'1.23e9'."""
  return Value(scientific(value), _key(value))


def p_value(value: float) -> Value:
  return Value(p_text(value), _key(value))


def _key(value: float) -> float | None:
  return value if math.isfinite(value) else None


def pieces(value: str, limit: int) -> list[tuple[str, str]]:
  """(kind, text) of a text's parts: 'text', 'chat' marks, and 'cut' for what is left out.

  A longer text keeps its head and its tail, where the answer stands.
  """
  if len(value) <= limit:
    return _marked(value)
  head, tail = value[: 2 * limit // 3], value[-(limit // 3) :]
  left_out = f"{len(value) - len(head) - len(tail):,}"
  return [*_marked(head), ("cut", left_out), *_marked(tail)]


def _marked(value: str) -> list[tuple[str, str]]:
  parts = _CHAT.split(value)
  return [("chat" if i % 2 else "text", part) for i, part in enumerate(parts) if part]


def curve(values: Sequence[float | None]) -> dict[str, Any] | None:
  """A loss curve's size and lines; values that are None are gaps. None with fewer than two."""
  finite = [v for v in values if v is not None and math.isfinite(v)]
  if len(finite) < 2:
    return None
  stride = -(-len(values) // _LONGEST_CURVE)
  width, height = _CURVE
  low, high = min(finite), max(finite)
  place = lambda i, v: (
    f"{2 + i / (len(values) - 1) * (width - 4):.1f},"
    f"{height - 3 - (v - low) / ((high - low) or 1) * (height - 6):.1f}"
  )
  lines: list[list[str]] = [[]]
  for i in range(0, len(values), stride):
    value = values[i]
    if value is None or not math.isfinite(value):
      lines.append([])
    else:
      lines[-1].append(place(i, value))
  drawn = [" ".join(line) for line in lines if len(line) > 1]
  return {"width": width, "height": height, "lines": drawn, "steps": len(values)}


def strip(
  length: float, evidence: Iterable[Sequence[float]], starts: Sequence[float], span: float
) -> dict[str, Any]:
  """The context as a bar: (x, width) of the evidence, drawn above, and of training spans, below."""
  width, height = _STRIP
  scale = width / max(length, 1)
  above = [(f"{s * scale:.1f}", f"{max((e - s) * scale, 2):.1f}") for s, e in evidence]
  below = [(f"{s * scale:.1f}", f"{max(span * scale, 1.5):.1f}") for s in starts]
  return {"width": width, "height": height, "above": above, "below": below}


def render(template: str, **values: Any) -> str:
  """A template of this package with its values."""
  return _environment().get_template(template).render(**values)


def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("tttjax.report.page"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_printable,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters["pieces"] = pieces
  environment.filters["sha256"] = _sha256
  environment.globals["source"] = lambda name: environment.loader.get_source(environment, name)[0]
  return environment


def _printable(value: Any) -> Any:
  if hasattr(value, "__html__") or not isinstance(value, str):
    return value
  return value.translate(_PICTURES)


def _sha256(source: str) -> str:
  """The hash by which a content security policy admits an inline script or style."""
  return "sha256-" + base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest()).decode()
