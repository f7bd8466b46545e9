"""Metrics for TensorBoard, by tensorboardX: the losses of adaptations and the scores of cells."""

import pathlib

from tttjax.errors import UserError
from tttjax.rows import Row, primary


def check() -> None:
  """Raises UserError where the library is not installed."""
  _library()


class TensorBoard:
  """Writes rows into event files under `directory`/tensorboard."""

  def __init__(self, directory: pathlib.Path):
    self._writer = _library().SummaryWriter(str(directory / "tensorboard"))

  def write(self, rows: list[Row]) -> None:
    """Rows of one strategy on one context: their primary score, and each step's loss."""
    first = rows[0]
    cell = f"{first['task']}/{first['strategy']}/{first['length']}/{first['seed']}"
    mean = sum(map(primary, rows)) / len(rows)
    self._writer.add_scalar(f"{first['metrics'][0]}/{cell}", mean, first["context"])
    for step, loss in enumerate((first["adaptation"] or {"loss": ()})["loss"]):
      if loss is not None:
        self._writer.add_scalar(f"loss/{cell}/{first['context']}", loss, step)

  def close(self) -> None:
    """Flushes the file."""
    self._writer.close()


def _library():
  try:
    import tensorboardX  # an extra
  except ImportError:
    raise UserError(
      "config.tensorboard needs the package tensorboardX: pip install 'tttjax[tensorboard]'"
    ) from None
  return tensorboardX
