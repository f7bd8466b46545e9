"""Checks transaction logs by reading them: replays the text of a log and reports every broken rule.

It knows nothing of how a log was made; every generated log goes through it (`verify`). One line may
break several rules and is then reported under each. Lines are read in order, and each continues
from the balances that were written last, right or wrong: one wrong line makes no later one wrong.

  DUPLICATE_TXN    the transaction's id was posted before
  LOST_UPDATE      a balance before the transfer is an older one of that account
  UNKNOWN_BALANCE  a balance before the transfer is none that the account ever had
  UNKNOWN_ACCOUNT  an account that was not opened
  CALC_ERROR       a balance after the transfer is not the one before it plus or minus the amount
  NEGATIVE_BAL     the paying account is below zero after the transfer
"""

import re
from typing import NamedTuple

_OPENINGS = (re.compile(r"OPEN ([A-Z]\d\d)=(\d+)"), re.compile(r"([A-Z]\d\d): (\d+)"))
_TRANSFERS = (
  re.compile(
    r"TX(?P<id>\d+):(?P<amount>\d+)"
    r" (?P<a>[A-Z]\d\d)=(?P<a_old>-?\d+)>(?P<a_new>-?\d+)"
    r" (?P<b>[A-Z]\d\d)=(?P<b_old>-?\d+)>(?P<b_new>-?\d+)"
  ),
  re.compile(
    r"TX(?P<id>\d+): transfer (?P<amount>\d+) from (?P<a>[A-Z]\d\d) to (?P<b>[A-Z]\d\d);"
    r" (?P=a): (?P<a_old>-?\d+) -> (?P<a_new>-?\d+),"
    r" (?P=b): (?P<b_old>-?\d+) -> (?P<b_new>-?\d+)"
  ),
)
_HEADINGS = ("Initial balances:", "Operations:")


class Finding(NamedTuple):
  """A broken rule and the transaction (digits of its id) that breaks it."""

  rule: str
  transaction: str


def _match(patterns, line):
  return next((m for m in (pattern.fullmatch(line) for pattern in patterns) if m), None)


def audit(log: str) -> list[Finding]:
  """Every broken rule of a log, in order.

  Args:
    log: lines of a log in either dialect, without the prompt around them.

  Raises:
    ValueError: a line that is no opening and no transfer, or an account that is opened twice.
  """
  history: dict[str, list[int]] = {}
  posted: set[str] = set()
  findings: list[Finding] = []
  for line in log.splitlines():
    if line in _HEADINGS:
      continue
    if opening := _match(_OPENINGS, line):
      if opening[1] in history:
        raise ValueError(f"account {opening[1]} is opened twice: {line!r}")
      history[opening[1]] = [int(opening[2])]
      continue
    transfer = _match(_TRANSFERS, line)
    if transfer is None:
      raise ValueError(f"no opening and no transfer: {line!r}")
    broken = ["DUPLICATE_TXN"] if transfer["id"] in posted else []
    posted.add(transfer["id"])
    for side, change in (("a", -int(transfer["amount"])), ("b", int(transfer["amount"]))):
      old, new = int(transfer[f"{side}_old"]), int(transfer[f"{side}_new"])
      balances = history.setdefault(transfer[side], [])
      if not balances:
        broken.append("UNKNOWN_ACCOUNT")
      elif old != balances[-1]:
        broken.append("LOST_UPDATE" if old in balances else "UNKNOWN_BALANCE")
      if new != old + change:
        broken.append("CALC_ERROR")
      if side == "a" and new < 0:
        broken.append("NEGATIVE_BAL")
      balances.append(new)
    findings += [Finding(rule, transfer["id"]) for rule in dict.fromkeys(broken)]
  return findings


def verify(log: str, *expected: Finding):
  """Raises ValueError unless `expected` is all that `audit` finds: a mistake of the generator."""
  found = audit(log)
  if found != list(expected):
    raise ValueError(f"the log breaks {found} where {list(expected)} was meant")
