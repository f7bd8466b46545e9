"""One self-contained HTML page about a run, or about several side by side."""

from tttjax.report.page.layout import Content, write

__all__ = ["Content", "write"]
