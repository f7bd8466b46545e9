"""Tasks: contexts with questions, made or read from files. A new one is a file and its line here.

How an output is scored: `score` of each task, by what `final_answer` takes for the answer and
`number_answers`, `synthetic.log_answers` and `synthetic.code_bugs.place_answers` read in it.
"""

from tttjax.tasks.benchmarks.longbench_v2 import LongBenchV2
from tttjax.tasks.benchmarks.own_documents import OwnDocuments
from tttjax.tasks.benchmarks.zero_scrolls import ZeroScrolls
from tttjax.tasks.protocol import Task
from tttjax.tasks.synthetic.bank_log import BankLog
from tttjax.tasks.synthetic.code_bugs import CodeBugs
from tttjax.tasks.synthetic.needles import Needles
from tttjax.tasks.synthetic.ruler_qa import RulerQA
from tttjax.tasks.synthetic.transaction_log import TransactionLog
from tttjax.tasks.synthetic.word_counts import CommonWords, FrequentWords

TASKS: dict[str, type[Task]] = {
  kind.name: kind
  for kind in (
    BankLog,
    TransactionLog,
    CodeBugs,
    Needles,
    CommonWords,
    FrequentWords,
    RulerQA,
    LongBenchV2,
    ZeroScrolls,
    OwnDocuments,
  )
}
