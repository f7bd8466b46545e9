"""Attention: one operation, what it reads, and what a layer's queries see. Knows no model.

Every phase (prefill, span step, question, decode) is the same operation: queries
[B, T, H, d] against the slots first <= slot < limit of a fixed-capacity cache. It
returns the output and the logsumexp in float32, and parts combine by `merge`.

  caches           the frozen prefix, the growing suffix, their slots
  phases           what the queries of a call attend to: the protocol that the model calls
  cached, written  attention over frozen slots, and over slots that this call fills, with their
                   gradients
  dense_attention  ordinary autodiff: the reference, and the tokens' attention to themselves
  marked           the marked slots apart from the others, for measurements
  backends         which kernels compute it: the one dispatch; chunked (over blocks, folding) is
                   the portable one
  pallas_tpu       the kernels for TPUs; slot_grid, what a step of them reads and sees; kernel_call,
                   how they are run
  merging          the merge of parts
  no_gradient      constants whose derivative is an error
"""

from tttjax.attention.backends import Backend
from tttjax.attention.cached import attend_cache
from tttjax.attention.dense_attention import attend_dense
from tttjax.attention.marked import attend_marked, attend_whole
from tttjax.attention.merging import MASKED, merge
from tttjax.attention.written import attend_written

__all__ = [
  "MASKED",
  "Backend",
  "attend_cache",
  "attend_dense",
  "attend_marked",
  "attend_whole",
  "attend_written",
  "merge",
]
