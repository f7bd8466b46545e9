"""Bank logs in the compact dialect that the embedded checkpoint was trained on.

`OPEN A12=1240` opens an account; `TX4821:35 A12=1240>1205 B07=0310>0345` moves 35 from A12 to B07
and writes both balances, old>new. Accounts open all through the log, so the lines that compete with
the asked one grow with its length. Asked for an account's balance or a transaction's amount this is
the retrieval control: nothing has to be computed, the answer stands in one line.
"""

import dataclasses
from typing import ClassVar

from tttjax.tasks.synthetic.ledger import Entry, Operation
from tttjax.tasks.synthetic.log_task import VISIBLE, LogTask

HEADER = "[SYSTEM] Bank auditor\n[TASK] Reply with the answer only\n[CONTEXT]\n"


def balance_text(balance: int) -> str:
  """Four digits, with a minus sign in front of them where negative."""
  return f"-{-balance:04d}" if balance < 0 else f"{balance:04d}"


def entry_text(entry: Entry) -> str:
  """What a line says about one account."""
  old = "" if entry.old is None else f"{balance_text(entry.old)}>"
  return f"{entry.account}={old}{balance_text(entry.new)}"


def head_text(operation: Operation) -> str:
  """Id and amount of a transfer."""
  return f"TX{operation.transaction}:{operation.amount:02d}"


def line_text(operation: Operation) -> str:
  """The line of an operation, newline included."""
  head = head_text(operation) if operation.transaction else "OPEN"
  return " ".join([head, *map(entry_text, operation.entries)]) + "\n"


def question_text(kind: str, subject: str) -> str:
  """The question about an account or transaction, or about the log's anomaly."""
  return {
    "balance": f"balance of {subject}?",
    "amount": f"amount of TX{subject}?",
    "anomaly": "anomaly as {type, TX id}?",
  }[kind]


@dataclasses.dataclass(frozen=True)
class BankLog(LogTask):
  """The task `bank_log`; see LogTask for its options."""

  name: ClassVar[str] = "bank_log"
  label: ClassVar[str] = "bank log"
  description: ClassVar[str] = (
    "A log of transfers in a compact dialect, asked for an account's last balance, a transaction's "
    f"amount, or the one line that breaks a rule. {VISIBLE}"
  )
  open_share: ClassVar[float] = 0.3
  id_digits: ClassVar[int] = 4
  answer_tokens: ClassVar[int] = 16
  opens_in_place: ClassVar[bool] = True

  def header(self) -> str:
    return HEADER

  def line(self, operation: Operation) -> str:
    return line_text(operation)

  def head(self, operation: Operation) -> str:
    return head_text(operation)

  def entry(self, entry: Entry) -> str:
    return entry_text(entry)

  def balance(self, balance: int) -> str:
    return balance_text(balance)

  def amount(self, amount: int) -> str:
    return f"{amount:02d}"

  def question(self, subject: str) -> str:
    return question_text(self.kind, subject)
