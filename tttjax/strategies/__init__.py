"""Strategies: ways to spend compute on a context before answering, one file each.

A strategy is a function (engine, case, budget, key) -> Result. A new one is a
new file and its line here. Span sampling and decoding draw from the same two
halves of `key` in all of them, so strategies differ by what they do, not by luck.
"""

from tttjax.strategies.in_context import in_context
from tttjax.strategies.qttt import qttt
from tttjax.strategies.qttt_other_context import qttt_other_context
from tttjax.strategies.thinking import thinking

STRATEGIES = {f.__name__: f for f in (in_context, thinking, qttt, qttt_other_context)}
