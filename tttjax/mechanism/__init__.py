"""The paper's mechanism, measured from the cache without a [T, T] matrix.

evidence_attention.py   attention mass, retrieval margin and lead of the evidence
theory.py               what these must reach, and what dilution leaves of them
query_step.py           Lemma 3.2: what one small step on a query gains
held_out.py             the loss of spans that were not trained on
probe.py                suffix attention that keeps the evidence apart, which the first needs
"""

from tttjax.mechanism.evidence_attention import (
  AttentionStatistics,
  attention_mass,
  attention_statistics,
)
from tttjax.mechanism.held_out import held_out_starts, span_losses
from tttjax.mechanism.query_step import QueryStep, query_step_check
from tttjax.mechanism.theory import margin_threshold, mass_bound, required_lead

__all__ = [
  "AttentionStatistics",
  "QueryStep",
  "attention_mass",
  "attention_statistics",
  "held_out_starts",
  "margin_threshold",
  "mass_bound",
  "query_step_check",
  "required_lead",
  "span_losses",
]
