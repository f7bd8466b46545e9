"""Table 1: how sensitive qTTT is to the learning rate.

python -m tttjax.main --config=configs/paper/learning_rates.py
python -m tttjax.main --config=configs/paper/learning_rates.py:paper --config.models=/data/Qwen3-4B

The paper finds a plateau at 1e-6 .. 1e-5 for Qwen3 and a collapse at 1e-4. The embedded model is
1,000 times smaller and its rates that much larger; its tuning seed is used, so that the reported
numbers elsewhere are of other contexts.

Two and a half minutes on two idle cores, the embedded model. Expected: no effect at 1e-5, a plateau
at 3e-4 .. 3e-3, collapse from 1e-2 on (docs/honest/README.md).
"""

from tttjax.experiment.paper import sandbox_config

_RATES = {
  "embedded": (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
  "paper": (3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4),
}


def get_config(size: str = "embedded"):
  config = sandbox_config(size, "learning_rates")
  config.seeds = (0,)
  config.contexts = (24,) if size == "embedded" else config.contexts
  config.strategies = ("in_context",) + tuple(
    f"qttt(learning_rate={rate})" for rate in _RATES[size]
  )
  if size == "embedded":
    config.tasks = ("bank_log",)
    config.lengths = (1024, 2048, 4096)
    return config
  config.tasks = ("transaction_log", "code_bugs(source=olmo)")
  config.lengths = (2536, 9560)
  return config
