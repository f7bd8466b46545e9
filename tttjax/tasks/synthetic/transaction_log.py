"""The transaction-log task in prose, for models that read English (paper, section 4).

A multi-account bank log: the rules, the initial balances, then operations with their transaction id
and the balances before and after. Exactly one operation breaks a rule where the anomaly is asked
for, none where a balance or an amount is.
"""

import dataclasses
from typing import ClassVar

from tttjax.tasks.synthetic.ledger import Entry, Operation
from tttjax.tasks.synthetic.log_task import VISIBLE, LogTask, kind_option

_RULES = """\
[SYSTEM] You are a careful auditor of bank transaction logs.
[TASK] The log starts with the balance of every account. Then it lists transfers in the order in \
which they were committed, one per line: transaction id, amount, paying account, receiving \
account, and of both accounts the balance before -> after.
These rules hold for a correct log:
- The balance before a transfer is the one that the account's latest line has written.
- The paying account's balance falls by the amount, the receiving account's rises by it.
- No account is debited below zero.
- Every transaction id is posted once.
"""
_ANOMALY = """\
Exactly one line of the log breaks a rule, in one of four ways:
- CALC_ERROR: a balance after the transfer is not the balance before it plus or minus the amount.
- NEGATIVE_BAL: the paying account is debited below zero.
- LOST_UPDATE: a balance before the transfer is stale, so that the account's last update is \
overwritten.
- DUPLICATE_TXN: a transaction that was posted before is posted again under the same id.
Later lines continue from the balances that this line has written. Answer in the form \
{bug_type, TX id}, for example {CALC_ERROR, TX00000}; if you reason first, write the answer after \
`Final:`.
"""
_LOOKUP = """\
No line of the log breaks a rule. Answer with the number alone, as the log writes it; if you \
reason first, write the answer after `Final:`.
"""


@dataclasses.dataclass(frozen=True)
class TransactionLog(LogTask):
  """The task `transaction_log`; see LogTask for its options."""

  kind: str = kind_option("anomaly")

  name: ClassVar[str] = "transaction_log"
  label: ClassVar[str] = "transaction log"
  description: ClassVar[str] = (
    "A log of transfers in English, with the rules in front of it, asked for the one line that "
    f"breaks one, or for a balance or an amount. {VISIBLE}"
  )
  open_share: ClassVar[float] = 0.1
  id_digits: ClassVar[int] = 5
  answer_tokens: ClassVar[int] = 128  # with a sentence around it
  opens_in_place: ClassVar[bool] = False

  def header(self) -> str:
    return _RULES + (_ANOMALY if self.kind == "anomaly" else _LOOKUP) + "[CONTEXT]\n"

  def line(self, operation: Operation) -> str:
    if not operation.transaction:
      return f"{self.entry(operation.entries[0])}\n"
    source, target = operation.entries
    return (
      f"{self.head(operation)} from {source.account} to {target.account};"
      f" {self.entry(source)}, {self.entry(target)}\n"
    )

  def head(self, operation: Operation) -> str:
    return f"TX{operation.transaction}: transfer {operation.amount}"

  def entry(self, entry: Entry) -> str:
    old = "" if entry.old is None else f"{entry.old} -> "
    return f"{entry.account}: {old}{entry.new}"

  def balance(self, balance: int) -> str:
    return str(balance)

  def amount(self, amount: int) -> str:
    return str(amount)

  def question(self, subject: str) -> str:
    return {
      "balance": f"What is the balance of account {subject} at the end of the log?",
      "amount": f"What amount does transaction TX{subject} transfer?",
      "anomaly": "Which line breaks a rule? Answer with {bug_type, TX id}.",
    }[self.kind]
