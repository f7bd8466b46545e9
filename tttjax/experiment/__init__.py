"""Writes rows: the config of a run, its budgets, the loop over contexts, the record of it all."""

from tttjax.experiment.run_fields import default_config
from tttjax.experiment.running import Run, run

__all__ = ["Run", "default_config", "run"]
