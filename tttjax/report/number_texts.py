"""How tables, figures and reports write numbers."""

import math

from tttjax.report.statistics import Estimate


def count(number: int, noun: str) -> str:
  """'1 context', '2 contexts'."""
  return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plus_minus(estimate: Estimate, sign: str = "", places: int = 3) -> str:
  """'0.812 +- 0.031'; without a standard error where there is none."""
  if math.isnan(estimate.mean):
    return "n/a"
  error = "" if math.isnan(estimate.stderr) else f" +- {estimate.stderr:.{places}f}"
  mean = f"{estimate.mean:{sign}.{places}f}"
  if float(mean) == 0:  # no '-0.000'
    mean = f"{0.0:{sign}.{places}f}"
  return mean + error


def p_text(value: float) -> str:
  """A p-value to three places; never 0.000, which no permutation test gives."""
  if math.isnan(value):
    return "n/a"
  return f"{value:.3f}" if value >= 0.001 else "<0.001"


def scientific(value: float) -> str:
  """'1.23e9', or '' where there is no number."""
  return f"{value:.2e}".replace("e+0", "e").replace("e+", "e") if math.isfinite(value) else ""
