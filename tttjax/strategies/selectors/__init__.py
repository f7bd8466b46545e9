"""Which spans of a context are trained on, one way per file. A new one is a file and its line."""

from tttjax.strategies.selectors.oracle import OracleSpans
from tttjax.strategies.selectors.selector import Selector
from tttjax.strategies.selectors.uniform import UniformSpans

SELECTORS: dict[str, Selector] = {kind.name: kind() for kind in (UniformSpans, OracleSpans)}
