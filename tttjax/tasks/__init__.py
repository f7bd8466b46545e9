"""Tasks: contexts with questions whose evidence is known. A new one is a file and its line here."""

from tttjax.tasks.protocol import SyntheticTask
from tttjax.tasks.synthetic.bank_log import BankLog
from tttjax.tasks.synthetic.code_bugs import CodeBugs
from tttjax.tasks.synthetic.needles import Needles
from tttjax.tasks.synthetic.transaction_log import TransactionLog

TASKS: dict[str, type[SyntheticTask]] = {
  kind.name: kind
  for kind in (
    BankLog,
    TransactionLog,
    CodeBugs,
    Needles,
  )
}
