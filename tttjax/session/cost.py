"""What a call costs: model FLOPs by exact count, seconds, and whether something was compiled."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import time

from tttjax import compiling, together


@dataclasses.dataclass(frozen=True)
class Phase:
  """One phase's cost on one context, all of its questions together.

  Attributes:
    name: 'prefill', 'adapt', 'generate' or 'score'.
    seconds: wall clock until the result was ready.
    compiled: whether a program was compiled in that time, which makes it no measurement.
    shared_flops: model FLOPs done once for all questions.
    question_flops: model FLOPs of each question, where they differ.
  """

  name: str
  seconds: float
  compiled: bool
  shared_flops: int = 0
  question_flops: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Cost:
  """The phases of one strategy on one context."""

  phases: tuple[Phase, ...] = ()

  def __add__(self, other: "Cost") -> "Cost":
    return Cost(self.phases + other.phases)

  @property
  def compiled(self) -> bool:
    return any(phase.compiled for phase in self.phases)

  def seconds(self) -> dict[str, float]:
    """Seconds by phase name."""
    total: dict[str, float] = {}
    for phase in self.phases:
      total[phase.name] = total.get(phase.name, 0.0) + phase.seconds
    return total

  def phase_flops(self, question: int) -> dict[str, int]:
    """Model FLOPs by phase of one question that is charged all shared work."""
    total: dict[str, int] = {}
    for phase in self.phases:
      own = phase.question_flops[question] if phase.question_flops else 0
      total[phase.name] = total.get(phase.name, 0) + phase.shared_flops + own
    return total

  def flops(self, question: int) -> int:
    """Model FLOPs of one question that is charged all shared work."""
    return sum(self.phase_flops(question).values())

  def amortised_flops(self, question: int, questions: int) -> float:
    """Model FLOPs of one question that shares prefill and adaptation with the others."""
    shared = sum(phase.shared_flops for phase in self.phases)
    return self.flops(question) - shared + shared / questions


@dataclasses.dataclass
class Clock:
  """The time of one block, and whether XLA compiled something in it; filled when it ends."""

  seconds: float = 0.0
  compiled: bool = False

  def phase(self, name: str, shared: int = 0, own: Sequence[int] = ()) -> Cost:
    """The block as a phase with these model FLOPs, once and of each question."""
    return Cost((Phase(name, self.seconds, self.compiled, shared, tuple(own)),))


@contextlib.contextmanager
def timed() -> Iterator[Clock]:
  """Times its block; of a program that serves several contexts, this context's share."""
  clock, start = Clock(), time.perf_counter()
  compiled, lent = compiling.count(), together.lent()
  try:
    yield clock
  finally:
    clock.seconds = time.perf_counter() - start - (together.lent() - lent)
    clock.compiled = compiling.count() > compiled
