"""Evaluation: runs strategies over contexts, keeps every row, reports with clustered errors."""

from tttjax.experiment.config import default_config
