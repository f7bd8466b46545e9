"""Figure 1b: accuracy against length on transaction logs, in three strategies and the control.

python -m tttjax.main --config=configs/paper/fig1b.py
python -m tttjax.main --config=configs/paper/fig1b.py:paper --config.models=/data/Qwen3-4B

One operation of a bank log is anomalous; the answer is its type and TX id. The first command asks
the embedded model for the anomaly (which it has not learned: docs/embedded/README.md) and for a
balance (which it has) in its own compact log; the second asks Qwen3-4B in prose logs of 25 .. 500
operations.

A minute and a quarter on two idle cores, the embedded model. Expected, from logs of version 0.1,
whose anomalies stood apart from the other lines: the anomaly never right, its type in two thirds of
the logs; balances .96, .81, .67 in context at 512, 1,024 and 2,048 tokens.
"""

from tttjax.experiment.paper import sandbox_config


def get_config(size: str = "embedded"):
  config = sandbox_config(size, "fig1b")
  config.strategies = ("in_context", "thinking", "qttt", "qttt_other_context")
  if size == "embedded":
    config.tasks = ("bank_log(kind=anomaly)", "bank_log")
    config.lengths = (512, 1024, 2048)
    return config
  config.tasks = ("transaction_log",)
  config.unit = "native"
  config.lengths = (25, 50, 100, 200, 300, 400, 500)
  return config
