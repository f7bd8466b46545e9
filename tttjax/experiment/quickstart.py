"""The config of a run without --config: the embedded model on bank logs, in a minute or two."""

import ml_collections

from tttjax.experiment.run_fields import default_config


def get_config() -> ml_collections.ConfigDict:
  """Four strategies at four lengths, 16 contexts each."""
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
