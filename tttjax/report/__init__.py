"""Reads rows: cells, comparisons, figures, the printed table and the page. Writes no row."""

from tttjax.report.outputs import build

__all__ = ["build"]
