"""The embedded model on bank logs: four strategies at four lengths.

python -m tttjax.main --config=configs/quickstart.py

One to two minutes on two cores, most of it compilation. Expected accuracy by length: in_context
.99, .96, .86, .70; qttt and its control within .04 of it; thinking .99, .96, .72, .00.
"""

import ml_collections

from tttjax.experiment import default_config


def get_config() -> ml_collections.ConfigDict:
  config = default_config()
  config.workdir = "runs/quickstart"
  config.lengths = (256, 512, 1024, 2048)
  config.contexts = (16,)
  config.seeds = (1,)  # seed 0 is for tuning
  config.questions = 6
  config.strategies = ("in_context", "thinking", "qttt", "qttt_other_context")
  config.ttt.steps = 32
  config.ttt.span = 32
  config.ttt.learning_rate = 1e-3
  config.thinking.budget = "matched"
  config.share_programs = True
  return config
