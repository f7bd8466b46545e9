"""The bank logs of training: a random log as it comes, with questions about any part of it.

The evaluation's logs (tttjax.tasks.synthetic.bank_log) are made otherwise: there the asked lines
are planned, so that they stay the same while the log grows.
"""

from collections.abc import Callable
import dataclasses

import numpy as np

from tttjax.tasks.synthetic import bank_log
from tttjax.tasks.synthetic.ledger import ANOMALIES, Ledger, Operation

_LEAD_IN = 4  # lines in front of an anomaly, at least one more
_LONGEST_LINE = "TX0000:00 A00=0000>-0000 B00=0000>0000\n"
_STREAM = {"log": 0, "anomaly": 1}  # independent random streams of one seed


@dataclasses.dataclass(frozen=True)
class Line:
  """One line of a log, newline included, and what it says."""

  text: str
  operation: Operation


def write_log(
  seed: int, room: int, length: Callable[[str], int], anomaly: bool
) -> tuple[list[Line], int]:
  """Writes the longest log of `seed` that fits.

  Args:
    seed: names the log.
    room: tokens that the log may have; with an anomaly at least 100.
    length: function from a line's text to its number of tokens.
    anomaly: put exactly one anomaly in, of a random kind at a random place.

  Returns:
    (lines, number of their tokens).
  """
  ledger = Ledger(np.random.default_rng((seed, _STREAM["log"])))
  lines: list[Line] = []
  used = 0
  if anomaly:
    rng = np.random.default_rng((seed, _STREAM["anomaly"], 1))
    kind = ANOMALIES[int(rng.integers(len(ANOMALIES)))]
    longest = length(_LONGEST_LINE)
    place = rng.random() * (room - 2 * longest)
    choices = np.random.default_rng((seed, _STREAM["anomaly"]))
    written = None
    while written is None:
      if len(lines) > _LEAD_IN and used >= place:
        written = ledger.write_anomaly(kind, choices)
      if written is None and used + 2 * longest > room:  # Its line is the last one that fits.
        written = ledger.write_anomaly("CALC_ERROR", choices)
      lines.append(_line(written[0] if written else ledger.write()))
      used += length(lines[-1].text)
  while True:
    line = _line(ledger.write())
    size = length(line.text)
    if used + size > room:
      return lines, used
    lines.append(line)
    used += size


def _line(operation: Operation) -> Line:
  return Line(bank_log.line_text(operation), operation)


def ask(lines: list[Line], rng: np.random.Generator, kind: str) -> tuple[str, str, str] | None:
  """A question about a log.

  Returns:
    (question, answer, the account or transaction that is asked about), or None where the log has
    nothing to ask about.
  """
  if kind == "anomaly":
    wrong = next(line.operation for line in lines if line.operation.anomaly)
    answer = f"{{{wrong.anomaly}, TX{wrong.transaction}}}"
    return bank_log.question_text(kind, ""), answer, ""
  if kind == "amount":
    answers = [
      (line.operation.transaction, f"{line.operation.amount:02d}")
      for line in lines
      if line.operation.transaction
    ]
  else:
    balances = {entry.account: entry.new for line in lines for entry in line.operation.entries}
    answers = [
      (account, bank_log.balance_text(balance))
      for account, balance in balances.items()
      if balance >= 0
    ]
  if not answers:
    return None
  subject, answer = answers[rng.permutation(len(answers))[0]]
  return bank_log.question_text(kind, subject), answer, subject
