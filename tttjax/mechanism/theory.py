"""The paper's bounds on attention mass (its section 2), as numpy functions.

The mass is the target's share of the softmax of a query's scaled scores over T keys.
"""

import numpy as np

from tttjax.errors import UserError


def mass_bound(distractors, delta) -> np.ndarray:
  """Largest mass on a target with `distractors` keys at most `delta` below it: 1/(1 + m e^-delta).

  Score dilution: for a fixed delta it goes to 0 as m grows with T.

  Args:
    distractors: m, at least 0; a number or an array.
    delta: how far below the target's score those m scores may lie, in nats.

  Returns:
    float64, broadcast.
  """
  m, delta = np.asarray(distractors, np.float64), np.asarray(delta, np.float64)
  if (m < 0).any():
    raise UserError(f"distractors must be at least 0, not {m.min()}")
  return 1 / (1 + m * np.exp(-delta))


def required_lead(tokens, eps) -> np.ndarray:
  """Lead over each of T-1 others that guarantees a mass of 1-eps: log((T-1)(1-eps)/eps), in nats.

  It grows with log T, and no smaller lead guarantees that mass.

  Args:
    tokens: T, at least 2; a number or an array.
    eps: mass that may go elsewhere, in (0, 1).

  Returns:
    float64, broadcast.
  """
  tokens, eps = np.asarray(tokens, np.float64), np.asarray(eps, np.float64)
  if (tokens < 2).any():
    raise UserError(f"tokens must be at least 2, not {tokens.min()}")
  _check_share("eps", eps)
  return np.log((tokens - 1) * (1 - eps) / eps)


def margin_threshold(tau) -> np.ndarray:
  """Retrieval margin that a mass of tau needs and guarantees: log(tau/(1-tau)), whatever T is.

  Args:
    tau: mass in (0, 1); a number or an array.

  Returns:
    float64, nats.
  """
  tau = np.asarray(tau, np.float64)
  _check_share("tau", tau)
  return np.log(tau / (1 - tau))


def _check_share(name: str, share: np.ndarray) -> None:
  if not ((share > 0) & (share < 1)).all():
    raise UserError(f"{name} must lie between 0 and 1, both excluded, not {share}")
