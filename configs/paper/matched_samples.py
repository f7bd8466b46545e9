"""Tables 8 and 9: self-consistency and beam search at the FLOPs of qTTT.

python -m tttjax.main --config=configs/paper/matched_samples.py
python -m tttjax.main --config=configs/paper/matched_samples.py:paper --config.models=/data/Qwen3-4B
python -m tttjax.main --config=configs/paper/matched_samples.py:longbench_v2 --config.data=PATH \
    --config.models=/data/Qwen3-4B
python -m tttjax.main --config=configs/paper/matched_samples.py:zero_scrolls --config.data=FOLDER \
    --config.models=/data/Qwen3-4B

The n samples or beams share one thinking budget, so each has 1/n of it. The first two ask the
sandbox. The others are the paper's comparison (PATH and FOLDER as in table4_longbench_v2.py and
table5_zero_scrolls.py); its averages for 4B, in %:

                SC-8  SC-16  SC-32  Beam-8  Beam-16  Beam-32  qTTT
  LongBench-v2  36.6  31.7   19.8   33.5    27.8     16.4     39.7
  ZeroSCROLLS   28.2  24.7   18.3   26.0    21.4     15.3     32.5

Short thoughts that a budget closes by force are what falls there: the tables count them. What
table4_longbench_v2.py says of a replication holds here too.

A minute on two idle cores, the embedded model. Expected: no strategy better than in_context by more
than noise. The benchmarks, from counts and not measured, with assumptions as in
table4_longbench_v2.py and n samples that share every read of weights and cache: 13 and 2 hours on
one H200, 23 and 4 on one v5p chip.
"""

from tttjax.experiment.paper import BENCHMARKS, benchmark_config, sandbox_config


def get_config(size: str = "embedded"):
  name = "matched_samples"
  on_documents = size in BENCHMARKS
  config = benchmark_config(size, name) if on_documents else sandbox_config(size, name)
  counts = (8, 16, 32)
  config.strategies = (
    ("in_context", "thinking", "qttt")
    + tuple(f"self_consistency(n={n}, temperature=0.6)" for n in counts)
    + tuple(f"beam(n={n})" for n in counts)
  )
  if on_documents:
    return config
  if size == "embedded":
    config.tasks = ("bank_log",)
    config.lengths = (512, 1024)
    config.contexts = (8,)
    return config
  config.tasks = ("transaction_log", "code_bugs(source=olmo)")
  config.lengths = (2536, 9560)
  return config
