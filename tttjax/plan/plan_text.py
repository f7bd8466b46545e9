"""A plan as text."""

from tttjax.plan.chips import GIB
from tttjax.plan.planned_work import PROMPT_TOKENS, Work
from tttjax.plan.planning import Plan

_KINDS = {"weights": "weights", "cache": "cache", "fast weights": "fast weights, moments"}


def heading(name: str, work: Work, strategy: str) -> str:
  """What is planned, in a line or two."""
  parts = [f"{name}, bfloat16", f"{work.context:,} tokens of context", strategy]
  if work.adapts:
    parts.append(f"{work.ttt.steps} steps of {work.ttt.span} tokens")
  samples = f"{work.samples} x " if work.samples > 1 else ""
  parts.append(f"a question of {PROMPT_TOKENS}, {samples}{work.new_tokens:,} new tokens")
  lines = [" | ".join(parts)]
  positions = work.architecture.max_positions
  if work.context + PROMPT_TOKENS + work.new_tokens > positions:
    lines.append(
      f"(the model's files allow {positions:,} positions: it needs YaRN, or other files)"
    )
  return "\n".join(lines)


def verdict(plan: Plan) -> str:
  """Whether it fits, and by how much."""
  tightest, memory = plan.tightest, plan.topology.device.memory
  amount = f"{tightest.name} needs {_gib(tightest.total)} of {_gib(memory)} GiB"
  if plan.fits:
    return f"{plan.topology} fits: {amount} on each device, {_gib(plan.spare)} to spare"
  return f"{plan.topology} does not fit: {amount} on each device, {_gib(-plan.spare)} too many"


def table(plan: Plan) -> str:
  """Memory by kind and ideal seconds of each phase."""
  topology = plan.topology
  chips = f"{topology.chips} chip{'s' if topology.chips > 1 else ''}"
  if topology.device.per_chip > 1:
    chips += f" of {topology.device.per_chip} devices"
  mesh = ", ".join(f"{axis}={size}" for axis, size in plan.mesh.items())
  names = [phase.name for phase in plan.phases]
  rest = "temporaries, rest" if topology.device.is_tpu else "kept for temporaries"
  rows = [("GiB per device", *names)]
  rows += [
    (label, *(_gib(phase.held[kind]) if kind in phase.held else "" for phase in plan.phases))
    for kind, label in _KINDS.items()
    if any(kind in phase.held for phase in plan.phases)
  ]
  rows += [
    (rest, *(_gib(phase.rest) for phase in plan.phases)),
    ("total", *(_gib(phase.total) for phase in plan.phases)),
    ("", *("" for _ in names)),
    ("PFLOPs", *(f"{phase.ideal.flops / 1e15:.3g}" for phase in plan.phases)),
    ("ideal seconds", *(f"{phase.ideal.seconds:.3g}" for phase in plan.phases)),
    ("bound by", *(phase.ideal.bound for phase in plan.phases)),
  ]
  widths = [max(map(len, column)) for column in zip(*rows)]
  lines = [
    "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
    for row in rows
  ]
  how = "compiled ahead of time"
  if not topology.device.is_tpu:
    how = "added up, not compiled: a tenth of the memory is kept for temporaries"
  return "\n".join(
    [f"{topology}, {chips}{', mesh ' if mesh else ''}{mesh}; memory {how}", "", *lines]
  )


def _gib(size: int) -> str:
  return f"{size / GIB:.1f}"
