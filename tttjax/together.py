"""Several contexts through one program, by code that knows of one context.

What answers a question cannot be traced: strategies check, choose and loop in Python. So each
context gets a thread (`run`). Where a thread calls a `program`, a jitted function, it
waits until every other thread has called one too or has ended. Then calls of the same program with
the same shapes become one call under `jax.vmap`, and each thread goes on with its own part of the
result: the weights are read once for all. Arguments that are the same for all, weights and numbers,
are not batched. A program that one thread alone calls runs as ever.
"""

from collections.abc import Callable, Hashable, Sequence
import contextlib
import dataclasses
import functools
import threading
import time
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from tttjax import compiling
from tttjax.checks import is_concrete

T = TypeVar("T")
# What a program raises where its contexts do not fit the memory at the same time.
_TOO_LARGE = (jax.errors.JaxRuntimeError, MemoryError)


class _Here(threading.local):
  """Of a thread: the others that it works with, its place among them, and what they took of its
  time."""

  meeting: "_Meeting | None" = None
  place = 0
  lent = 0.0


_here = _Here()


def lent() -> float:
  """Seconds of this thread so far that its programs spent on other contexts than its own."""
  return _here.lent


class Program:
  """A jitted function whose first arguments are static; threads that work together share it."""

  def __init__(self, function: Callable, static: int):
    functools.update_wrapper(self, function)
    self._function, self._static = function, static
    self._jitted = jax.jit(function, static_argnums=tuple(range(static)))
    self._of_several = functools.lru_cache(maxsize=32)(self._make_of_several)

  def __call__(self, *arguments):
    meeting = _here.meeting
    if meeting is None or not all(map(is_concrete, jax.tree.leaves(arguments[self._static :]))):
      return self._jitted(*arguments)
    static, arrays = arguments[: self._static], arguments[self._static :]
    return meeting.call(_Call(_here.place, self, static, arrays))

  def lower(self, *arguments, **options):
    """As of the jitted function."""
    return self._jitted.lower(*arguments, **options)

  def alone(self, call: "_Call"):
    """The result of one call."""
    return self._jitted(*call.static, *call.arrays)

  def of_several(self, calls: Sequence["_Call"]) -> list[Any]:
    """The results of calls of one signature, by one program."""
    leaves = [jax.tree.leaves(call.arrays) for call in calls]
    own = tuple(not _all_equal(column) for column in zip(*leaves))
    if not any(own):
      return [self.alone(calls[0])] * len(calls)
    run = self._of_several(calls[0].static, jax.tree.structure(calls[0].arrays), own)
    pick = lambda row, which: [leaf for leaf, mine in zip(row, own) if mine is which]
    return run(pick(leaves[0], False), [pick(row, True) for row in leaves])

  def _make_of_several(self, static: tuple, structure, own: tuple[bool, ...]):
    """The jitted function of (leaves that are the same for all, each context's other leaves)."""

    def one(same, different):
      same, different = iter(same), iter(different)
      leaves = [next(different if mine else same) for mine in own]
      return self._function(*static, *jax.tree.unflatten(structure, leaves))

    @jax.jit
    def several(same, different):
      stacked = [jnp.stack(leaves) for leaves in zip(*different)]
      out = jax.vmap(one, in_axes=(None, 0))(same, stacked)
      return [jax.tree.map(lambda x: x[i], out) for i in range(len(different))]

    return several


def program(static: int) -> Callable[[Callable], Program]:
  """Decorates a function that is to be jitted with its first `static` arguments static."""
  return lambda function: Program(function, static)


def run(functions: Sequence[Callable[[], T]]) -> list[T]:
  """What each of the functions returns, each in a thread and their programs as one.

  One alone runs in this thread.

  Raises:
    BaseException: what the first of them raised that did, when all have ended.
  """
  if len(functions) == 1:
    return [functions[0]()]
  meeting = _Meeting(len(functions))
  outcomes: list[Any] = [None] * len(functions)
  errors: list[BaseException | None] = [None] * len(functions)

  def work(place: int) -> None:
    _here.meeting, _here.place = meeting, place
    try:
      outcomes[place] = functions[place]()
    except BaseException as error:  # raised in the caller's thread
      errors[place] = error
    finally:
      meeting.leave()

  threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(functions))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for error in filter(None, errors):
    raise error
  return outcomes


@dataclasses.dataclass(eq=False)
class _Call:
  """One thread's call of a program, and what came of it."""

  place: int
  program: Program
  static: tuple
  arrays: tuple
  done: bool = False
  result: Any = None
  error: Exception | None = None
  seconds: float = 0.0
  compiled: int = 0

  @property
  def signature(self) -> Hashable:
    """Equal of calls that one program can serve."""
    leaves, structure = jax.tree.flatten(self.arrays)
    return self.program, self.static, structure, tuple(map(jax.typeof, leaves))


class _Meeting:
  """Where threads wait for one another's calls; the last to come makes them all."""

  def __init__(self, number: int):
    self._changed = threading.Condition()
    self._working = number  # threads that do not wait
    self._calls: list[_Call] = []

  def call(self, call: _Call) -> Any:
    began, compiled = time.perf_counter(), compiling.count()
    with self._changed:
      self._calls.append(call)
      self._one_less()
      self._changed.wait_for(lambda: call.done)
    # Whoever made the calls compiled for all.
    compiling.add(call.compiled - (compiling.count() - compiled))
    _here.lent += time.perf_counter() - began - call.seconds
    if call.error is not None:
      raise call.error
    return call.result

  def leave(self) -> None:
    """The thread makes no more calls."""
    with self._changed:
      self._one_less()

  def _one_less(self) -> None:
    self._working -= 1
    if self._working or not self._calls:
      return
    calls = sorted(self._calls, key=lambda call: call.place)
    self._calls, self._working = [], len(calls)
    groups: dict[Hashable, list[_Call]] = {}
    for call in calls:
      groups.setdefault(call.signature, []).append(call)
    _here.meeting = None  # programs that are called in these are part of them
    for group in groups.values():
      _make(group)
    _here.meeting = self
    self._changed.notify_all()


def _make(calls: list[_Call]) -> None:
  """Makes calls of one signature, by one program unless it does not fit."""
  began, compiled = time.perf_counter(), compiling.count()
  try:
    results = jax.block_until_ready(calls[0].program.of_several(calls))
  except _TOO_LARGE as error:
    if len(calls) > 1:
      for call in calls:
        _make([call])
      return
    calls[0].error = error
  except Exception as error:
    for call in calls:
      call.error = error
  else:
    for call, result in zip(calls, results):
      call.result = result
  for call in calls:
    call.seconds = (time.perf_counter() - began) / len(calls)
    call.compiled = compiling.count() - compiled
    call.done = True


def _all_equal(leaves: Sequence[Any]) -> bool:
  """Whether the leaves are one object, arrays in the same memory, or equal numbers."""
  first = leaves[0]
  if all(leaf is first for leaf in leaves) or len(set(map(_place, leaves))) == 1:
    return True
  if np.ndim(first) or jnp.issubdtype(first.dtype, jax.dtypes.prng_key):
    return False
  return len({np.asarray(leaf).item() for leaf in leaves}) == 1


def _place(leaf) -> Hashable:
  """What no array of the same shape that holds something else has: where it lies, on one device."""
  if isinstance(leaf, jax.Array) and len(leaf.devices()) == 1:
    with contextlib.suppress(AttributeError, jax.errors.JaxRuntimeError):
      return leaf.sharding, leaf.unsafe_buffer_pointer()
  return id(leaf)
