"""Tasks: contexts with questions whose evidence is known. A new one is a file and its line here.

How an output is scored: `score` of each task, by what `final_answer` takes for the answer and
`number_answers`, `synthetic.log_answers` and `synthetic.code_bugs.place_answers` read in it.
"""

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
