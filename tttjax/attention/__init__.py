"""The one attention operation, its backends, and the merge of parts.

Every phase (prefill, span step, question, decode) is the same operation: rows
of queries [B, K, R, d], GQA folded into the rows, against the slots
first <= slot < limit of a fixed-capacity cache. It returns the output and the
logsumexp in float32, and two parts combine by `merge`.
"""

from tttjax.attention.cached import attend_cache
from tttjax.attention.dense import attend_dense
from tttjax.attention.merge import merge

__all__ = ["attend_cache", "attend_dense", "merge"]
