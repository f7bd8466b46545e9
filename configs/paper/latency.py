"""Tables 10 to 12: wall clock by strategy, phase and length.

python -m tttjax.main --config=configs/paper/latency.py
python -m tttjax.main --config=configs/paper/latency.py:paper \
    --config.models=/data/Qwen3-1.7B,/data/Qwen3-4B,/data/Qwen3-8B

The paper goes on to 128k tokens, which needs a checkpoint with YaRN or a 2507 one: with 8,192
thinking tokens a stock Qwen3 of 40,960 positions ends at 32,000. Seconds are those of contexts
during which nothing was compiled, one question each; every length has its own programs. Matched
FLOPs are not matched seconds: steps are bound by compute, thinking tokens by memory. A machine that
does other work makes the numbers worthless.

Forty seconds on two idle cores, the embedded model. Expected: no accuracy worth reading, with 5
questions per length.
"""

from tttjax.experiment.paper import sandbox_config


def get_config(size: str = "embedded"):
  config = sandbox_config(size, "latency")
  config.strategies = ("in_context", "thinking", "qttt")
  config.share_programs = False
  config.mechanism = False
  config.contexts = (5,)
  config.questions = 1
  if size == "embedded":
    config.tasks = ("bank_log",)
    config.lengths = (512, 2048, 8192)
    return config
  config.models = ("Qwen3-1.7B", "Qwen3-4B", "Qwen3-8B")
  config.tasks = ("transaction_log",)
  config.lengths = (8192, 16384, 32000)
  return config
