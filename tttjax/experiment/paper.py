"""The settings that the paper's sandbox experiments share (its section 4 and appendices)."""

from ml_collections import config_dict

from tttjax.errors import UserError
from tttjax.experiment.run_fields import PAPER, default_config

SIZES = ("embedded", "paper")


def sandbox_config(size: str, name: str) -> config_dict.ConfigDict:
  """The paper's hyperparameters, or those that suit the embedded model.

  Args:
    size: 'paper': N = 32 steps of k = 128 at 1e-5 against 8,192 thinking tokens (its rule 2 N k),
      answers of up to 512 tokens, the sampling of Qwen3; config.models must be given. 'embedded':
      the small model, N = 32 steps of k = 32 at 1e-3, thinking matched by exact FLOPs, greedy
      decoding but for the samples of self-consistency.
    name: the work directory is runs/NAME, or runs/NAME-paper.

  Raises:
    UserError: another size.
  """
  if size not in SIZES:
    raise UserError(f"size {size!r}: write --config=FILE or --config=FILE:paper")
  config = default_config()
  config.seeds = (1,)  # seed 0 is for tuning
  if size == "embedded":
    config.workdir = f"runs/{name}"
    config.contexts = (12,)
    config.questions = 4
    config.share_programs = True
    return config
  config.workdir = f"runs/{name}-paper"
  config.models = ("Qwen3-4B",)
  config.contexts = (100,)
  config.questions = 1
  config.ttt.steps, config.ttt.span, config.ttt.learning_rate = 32, 128, 1e-5
  config.thinking.budget = PAPER
  config.thinking.temperature = 0.6
  config.sampling.max_new_tokens = 512
  config.sampling.temperature, config.sampling.top_p, config.sampling.top_k = 0.7, 0.8, 20
  return config
