"""What was measured: rows, their JSON, the table, and the plot of cost against length."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any

from benchmarks.alternating import Timing, ratio
from benchmarks.limits import Limit

_OURS = "tttjax"
_VERSIONS = ("python", "jax", "torch", "transformers", "peft")


@dataclasses.dataclass(frozen=True)
class Row:
  """One phase at one length.

  Attributes:
    phase, length: which; length 0 where there is no context.
    number: steps, tokens or contexts of a run; the table shows one of them.
    timings: seconds of a run, by contender; ours first.
    limit: of a run, where it is known.
    missing: contenders that could not run, and why.
  """

  phase: str
  length: int
  number: int
  timings: Mapping[str, Timing]
  limit: Limit | None = None
  missing: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def ours(self) -> Timing:
    return self.timings[_OURS]

  @property
  def ratios(self) -> dict[str, float]:
    """How many times as long each other contender takes."""
    return {name: ratio(self.ours, t) for name, t in self.timings.items() if name != _OURS}

  @property
  def share(self) -> float | None:
    """Of the machine's limit that we reach, 1 at most."""
    return self.limit and self.limit.seconds / self.ours.seconds


def as_json(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
  """Everything, for the next comparison."""
  return json.dumps(
    {
      **about,
      "rows": [
        {
          "phase": row.phase,
          "length": row.length,
          "number": row.number,
          "seconds": {name: timing.seconds for name, timing in row.timings.items()},
          "rounds": {name: timing.rounds for name, timing in row.timings.items()},
          "ratios": row.ratios,
          "limit": row.limit and dataclasses.asdict(row.limit),
          "share_of_limit": row.share,
          "missing": dict(row.missing),
        }
        for row in rows
      ],
    },
    indent=1,
  )


def heading(about: Mapping[str, Any]) -> str:
  """The machine, its peaks and the versions, in a paragraph."""
  versions = [f"{name} {about[name]}" for name in _VERSIONS if name in about]
  return (
    f"{about['date']}, {about['number']} x {about['device']},"
    f" {about['matmul_flops'] / 1e9:,.0f} GFLOP/s, {about['bandwidth'] / 1e9:,.1f} GB/s;"
    f" {', '.join(versions)}"
  )


def line(row: Row) -> str:
  """A row while others are measured."""
  others = (f"{name} {ratio:.2f}x" for name, ratio in row.ratios.items())
  place = f"{row.phase} {row.length:,}" if row.length else row.phase
  return f"{place}: {', '.join([f'{_milliseconds(row.ours.seconds / row.number)} ms', *others])}"


def table(rows: Sequence[Row]) -> str:
  """Markdown: milliseconds of one step, token or run; how many times as long the others take."""
  contenders = list(dict.fromkeys(name for row in rows for name in row.ratios))
  head = ["", "tokens", f"{_OURS}, ms", *contenders, "of the limit", "bound"]
  lines = [head, ["---"] * len(head)]
  for row in rows:
    lines.append(
      [
        row.phase,
        f"{row.length:,}" if row.length else "",
        _milliseconds(row.ours.seconds / row.number),
        *(f"{row.ratios[name]:.2f}x" if name in row.ratios else "" for name in contenders),
        f"{row.share:.2f}" if row.share else "",
        row.limit.bound if row.limit else "",
      ]
    )
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _milliseconds(seconds: float) -> str:
  value = 1000 * seconds
  return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def plot(rows: Sequence[Row], path: pathlib.Path) -> None:
  """A panel per phase that was measured at several lengths: seconds against tokens, both log."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot, ticker

  phases = [
    phase
    for phase in dict.fromkeys(row.phase for row in rows)
    if len({row.length for row in rows if row.phase == phase}) > 1
  ]
  columns = min(len(phases), 3)
  height = -(-len(phases) // columns)
  figure, axes = pyplot.subplots(
    height, columns, figsize=(3.6 * columns, 3.0 * height), squeeze=False, layout="constrained"
  )
  for place, phase in zip(axes.flat, phases):
    own = [row for row in rows if row.phase == phase]
    for name in dict.fromkeys(name for row in own for name in row.timings):
      points = [(r.length, r.timings[name].seconds / r.number) for r in own if name in r.timings]
      style = {"linewidth": 2.2} if name == _OURS else {"linewidth": 1.2}
      place.plot(*zip(*points), marker="o", markersize=3.5, label=name, **style)
    bounds = [(r.length, r.limit.seconds / r.number) for r in own if r.limit]
    if bounds:
      place.plot(*zip(*bounds), color="0.5", linestyle=":", label="the machine's limit")
    place.set(xscale="log", yscale="log", title=phase, xlabel="tokens of context", ylabel="seconds")
    place.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    place.set_xticks(sorted({row.length for row in own}), minor=False)
    place.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    place.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    place.minorticks_off()
    place.grid(alpha=0.25)
    place.legend(fontsize=7)
  for place in axes.flat[len(phases) :]:
    place.set_axis_off()
  figure.savefig(path, dpi=130)
  pyplot.close(figure)
