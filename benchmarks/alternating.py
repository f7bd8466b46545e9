"""Contenders in turn, so that a machine that slows down slows all of them."""

from collections.abc import Callable, Mapping
import dataclasses
import statistics
import time

# Runs to its end, with the result waited for. It may return the seconds that count, of all it did.
Action = Callable[[], float | None]


@dataclasses.dataclass(frozen=True)
class Timing:
  """Seconds of one contender, round by round."""

  rounds: tuple[float, ...]

  @property
  def seconds(self) -> float:
    return statistics.median(self.rounds)


def alternate(contenders: Mapping[str, Action], rounds: int) -> dict[str, Timing]:
  """Seconds of every contender in each of the rounds; one run of each before, not counted."""
  for action in contenders.values():
    action()
  spent: dict[str, list[float]] = {name: [] for name in contenders}
  for number in range(rounds):
    # Every other round the other way about: none profits from its place.
    order = list(contenders.items())[:: 1 if number % 2 == 0 else -1]
    for name, action in order:
      begin = time.perf_counter()
      own = action()
      spent[name].append(time.perf_counter() - begin if own is None else own)
  return {name: Timing(tuple(times)) for name, times in spent.items()}


def ratio(own: Timing, other: Timing) -> float:
  """How many times as long the other takes: the median over rounds."""
  return statistics.median(b / a for a, b in zip(own.rounds, other.rounds))
