"""The one attention operation, its backends, and the merge of parts.

Every phase (prefill, span step, question, decode) is the same operation: rows
of queries [B, K, R, d], GQA folded into the rows, against the slots
first <= slot < limit of a fixed-capacity cache. It returns the output and the
logsumexp in float32, and two parts combine by `merge`.
"""

from tttjax.attention.cached import attend_cache
from tttjax.attention.dense_attention import attend_dense
from tttjax.attention.marked import attend_marked, attend_whole
from tttjax.attention.merging import MASKED, merge
from tttjax.attention.written import attend_written

__all__ = [
  "MASKED",
  "attend_cache",
  "attend_dense",
  "attend_marked",
  "attend_whole",
  "attend_written",
  "merge",
]
