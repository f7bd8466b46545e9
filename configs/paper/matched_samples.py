"""Tables 8 and 9: self-consistency and beam search at the FLOPs of qTTT.

python -m tttjax.main --config=configs/paper/matched_samples.py
python -m tttjax.main --config=configs/paper/matched_samples.py:paper --config.models=/data/Qwen3-4B

The n samples or beams share one thinking budget, so each has 1/n of it. The paper compares on
LongBench-v2 and ZeroSCROLLS; here it is the sandbox.

A minute on two idle cores, the embedded model. Expected: no strategy better than in_context by more
than noise.
"""

from tttjax.experiment.paper import sandbox_config


def get_config(size: str = "embedded"):
  config = sandbox_config(size, "matched_samples")
  counts = (8, 16, 32)
  config.strategies = (
    ("in_context", "thinking", "qttt")
    + tuple(f"self_consistency(n={n}, temperature=0.6)" for n in counts)
    + tuple(f"beam(n={n})" for n in counts)
  )
  if size == "embedded":
    config.tasks = ("bank_log",)
    config.lengths = (512, 1024)
    config.contexts = (8,)
    return config
  config.tasks = ("transaction_log", "code_bugs(source=olmo)")
  config.lengths = (2536, 9560)
  return config
