"""Does it work, when, and at what cost: the length sweep on the embedded model, with every control.

python -m tttjax.main --config=configs/honest.py

Rows, figures and what they say are in docs/honest. Balance lookups in bank logs: 50 contexts of 4
questions per length up to 2,048 tokens and 30 beyond, the same needles at every length. The
learning rate was chosen on seed 0 (configs/paper/learning_rates.py); these are contexts of seed 1.
About forty minutes on two cores.
"""

from tttjax.experiment import default_config


def get_config():
  config = default_config()
  config.workdir = "runs/honest"
  config.tasks = ("bank_log(needles=4)",)
  config.lengths = (256, 512, 1024, 2048, 4096, 8192)
  config.contexts = (50, 50, 50, 50, 30, 30)
  config.questions = 4
  config.seeds = (1,)
  config.strategies = (
    "in_context",
    "in_context(stretch=16000)",
    "log_temperature",
    "thinking",
    "self_consistency(n=8, temperature=0.6)",
    "qttt",
    "qttt(spans=oracle)",
    "qttt_other_context",
  )
  config.ttt.steps = 32
  config.ttt.span = 32
  config.ttt.learning_rate = 1e-3
  config.share_programs = True
  return config
