"""Adaptations that SIGTERM interrupted, in WORKDIR/unfinished until their rows are made."""

import dataclasses
import hashlib
import pathlib
import shutil
from typing import Any
import zipfile

import numpy as np

from tttjax import interrupts
from tttjax.checkpoint.orbax import restore_fast, save_fast
from tttjax.errors import UserError
from tttjax.experiment.work_units import Place
from tttjax.files import replacing
from tttjax.models.decoder import Params
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
    steps = len(history.loss)
    if steps > self._kept:
      shutil.rmtree(self._path, ignore_errors=True)
      self._path.mkdir(parents=True)
      save_fast(self._path / "weights", fast, opt_state, steps)
      with replacing(self._path / "history.npz") as temporary, open(temporary, "wb") as file:
        np.savez(file, **dataclasses.asdict(history))
    interrupts.pause()

  def remove(self) -> None:
    """Once the unit has its rows."""
    shutil.rmtree(self._folder, ignore_errors=True)
