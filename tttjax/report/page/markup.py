"""Small pieces of HTML: escaping, tables, inline drawings."""

from collections.abc import Iterable, Sequence
import html
import math

_CURVE = (150, 34)  # pixels
_STRIP = (260, 16)
_LONGEST_CURVE = 200  # points drawn


def text(value: object) -> str:
  """Escaped for HTML; +- as one sign."""
  return html.escape(str(value)).replace("+-", "&plusmn;")


def table(
  head: Sequence[str],
  rows: Iterable[Sequence[str]],
  left: Sequence[int] = (0,),
  breaks: Sequence[int] = (),
) -> str:
  """A table that scrolls sideways where it is too wide.

  Args:
    head: of the columns; HTML.
    rows: HTML.
    left: columns of text; the others are numbers, set to the right.
    breaks: rows with a rule above them.
  """
  cell = lambda tag, i, value: (
    f'<{tag} class="l">{value}</{tag}>' if i in left else f"<{tag}>{value}</{tag}>"
  )
  lines = ["".join(cell("th", i, value) for i, value in enumerate(head))]
  out = [f"<thead><tr>{lines[0]}</tr></thead><tbody>"]
  for number, row in enumerate(rows):
    rule = ' class="b"' if number in breaks else ""
    out.append(f"<tr{rule}>{''.join(cell('td', i, v) for i, v in enumerate(row))}</tr>")
  return f'<div class="scroll"><table>{"".join(out)}</tbody></table></div>'


def details(summary: str, body: str, shown: bool = False) -> str:
  """A section that opens on a click, without script."""
  return f"<details{' open' if shown else ''}><summary>{summary}</summary>{body}</details>"


def shortened(value: str, characters: int) -> str:
  """Escaped; a longer text keeps its head and its tail, where the answer stands."""
  if len(value) <= characters:
    return text(value)
  head, tail = value[: 2 * characters // 3], value[-(characters // 3) :]
  return f"{text(head)}<i> … {len(value) - len(head) - len(tail):,} characters … </i>{text(tail)}"


def curve(values: Sequence[float | None], label: str) -> str:
  """A loss curve; values that are None are gaps."""
  finite = [v for v in values if v is not None and math.isfinite(v)]
  if len(finite) < 2:
    return ""
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
  drawn = "".join(f'<polyline points="{" ".join(line)}"/>' for line in lines if len(line) > 1)
  return (
    f'<svg class="curve" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    f' role="img" aria-label="{text(label)}">{drawn}</svg>'
  )


def strip(
  length: float, marks: Sequence[tuple[float, float]], starts: Sequence[float], span: float
) -> str:
  """The context as a bar: evidence (wide marks above) and training spans (below)."""
  width, height = _STRIP
  scale = width / max(length, 1)
  top = "".join(
    f'<rect class="e" x="{s * scale:.1f}" width="{max((e - s) * scale, 2):.1f}" y="0" height="7"/>'
    for s, e in marks
  )
  bottom = "".join(
    f'<rect class="s" x="{s * scale:.1f}" width="{max(span * scale, 1.5):.1f}" y="9" height="7"/>'
    for s in starts
  )
  return (
    f'<svg class="strip" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    f' role="img" aria-label="evidence and training spans in the context">'
    f'<rect class="c" width="{width}" height="{height}"/>{top}{bottom}</svg>'
  )
