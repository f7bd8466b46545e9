"""Adaptations that SIGTERM interrupted, in WORKDIR/unfinished until their rows are made."""

from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import pathlib
import shutil
import threading
from typing import Any
import zipfile

from absl import logging
import jax
import numpy as np

from tttjax import interrupts
from tttjax.checkpoint.orbax import restore_fast, save_fast
from tttjax.errors import UserError
from tttjax.experiment.work_units import Place
from tttjax.files import replacing
from tttjax.models.decoder import Params
from tttjax.sharding import to_host
from tttjax.ttt.adamw import init_optimizer
from tttjax.ttt.history import StepMetrics

_FOLDER = "unfinished"


class UnfinishedAdaptations:
  """Implements `tttjax.session.resuming.Unfinished` for one unit of work.

  Args:
    workdir: of the run.
    model, place, strategy: of the unit.
  """

  def __init__(self, workdir: pathlib.Path, model: str, place: Place, strategy: str):
    name = hashlib.sha256(repr((model, place, strategy)).encode()).hexdigest()[:16]
    self._folder = workdir / _FOLDER / name
    self._number = 0  # of the adaptation in this unit
    self._kept = 0  # its steps on disk
    self._lock = threading.Lock()  # held by whoever writes or removes, and for the next one:
    self._finished: tuple[pathlib.Path, Params, StepMetrics] | None = None  # not on disk

  @property
  def _path(self) -> pathlib.Path:
    return self._folder / str(self._number)

  def asked(self) -> bool:
    return interrupts.asked()

  def restore(self, like: tuple[Any, Any]) -> tuple[Any, Any, StepMetrics] | None:
    self._number, self._kept = self._number + 1, 0
    try:
      with np.load(self._path / "history.npz") as arrays:
        history = StepMetrics(**arrays)
      fast, opt_state, step = restore_fast(self._path / "weights", like)
    except (OSError, ValueError, zipfile.BadZipFile, TypeError, UserError):
      step = 0  # nothing there, or not whole
    if not step or len(history.loss) != step:
      shutil.rmtree(self._path, ignore_errors=True)
      return None
    self._kept = step
    return fast, opt_state, history

  def save(self, fast: Params, opt_state: Any, history: StepMetrics) -> None:
    if len(history.loss) > self._kept:
      with self._lock:
        _write(self._path, fast, opt_state, history)
    interrupts.pause()

  def finished(self, fast: Params, history: StepMetrics) -> None:
    if len(history.loss) > self._kept:
      with self._lock:
        self._finished = self._path, fast, history
      if interrupts.asked():  # before there was anything for `save_finished`
        self.save_finished()

  def save_finished(self) -> None:
    """Keeps the last adaptation whose steps are all taken, beside a thread that uses it."""
    with self._lock:
      if self._finished is None:
        return
      path, fast, history = self._finished
      self._finished = None
      # Without steps left the optimizer's moments are of no use, so they were not held; what stands
      # in their place, and the copies, ask nothing of devices that are busy with the answers.
      opt_state = jax.eval_shape(init_optimizer, fast)
      zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), opt_state)
      try:
        _write(path, to_host(fast), zeros, history)
      except Exception as error:  # Orbax's are of many types; the answers may still come in time
        logging.warning("the adaptation is not saved: %s", " ".join(str(error).split()))

  def remove(self) -> None:
    """Once the unit has its rows."""
    with self._lock:
      self._finished = None
      shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def resumable(
  workdir: pathlib.Path, model: str, place: Place, strategy: str
) -> Iterator[UnfinishedAdaptations]:
  """What SIGTERM interrupts of the unit in this block goes on at the next start where it was."""
  unfinished = UnfinishedAdaptations(workdir, model, place, strategy)
  with interrupts.saving(unfinished.save_finished):
    yield unfinished
  unfinished.remove()


def remove_rest(workdir: pathlib.Path) -> None:
  """Once the run has all rows: what is left of units that ended between their rows and `remove`."""
  shutil.rmtree(workdir / _FOLDER, ignore_errors=True)


def _write(path: pathlib.Path, fast: Params, opt_state: Any, history: StepMetrics) -> None:
  """The state after the history's steps; it is whole once the history is there."""
  shutil.rmtree(path, ignore_errors=True)
  path.mkdir(parents=True)
  save_fast(path / "weights", fast, opt_state, len(history.loss))
  with replacing(path / "history.npz") as temporary, open(temporary, "wb") as file:
    np.savez(file, **dataclasses.asdict(history))
