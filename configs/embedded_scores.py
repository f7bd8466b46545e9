"""What a model that was pretrained on bank logs has learned: every question by length.

python -m tttjax.main --config=configs/embedded_scores.py --config.models=DIR/model --workdir=DIR/s

Balances, amounts and anomalies on held-out logs, answered at once, after 24 and 96 thinking tokens,
and with the lines spread over 16,000 positions. Without --config.models it is the embedded model.
"""

from tttjax.experiment import default_config


def get_config():
  config = default_config()
  config.workdir = "runs/embedded_scores"
  config.tasks = (
    "bank_log(needles=8)",
    "bank_log(kind=amount, needles=8)",
    "bank_log(kind=anomaly)",
  )
  config.lengths = (192, 256, 384, 512, 1024, 2048, 4096)
  config.contexts = (24, 24, 24, 24, 24, 12, 12)
  config.questions = 8
  config.seeds = (10_000,)  # apart from training and from the experiments
  config.strategies = (
    "in_context",
    "in_context(stretch=16000)",
    "thinking(tokens=24)",
    "thinking(tokens=96)",
  )
  config.ttt.span = 32
  config.mechanism = False
  return config
