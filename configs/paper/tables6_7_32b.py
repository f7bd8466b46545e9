"""Tables 6 and 7: LongBench-v2 and ZeroSCROLLS with Qwen3-32B.

python -m tttjax.main --config=configs/paper/tables6_7_32b.py:longbench_v2 --config.data=PATH \
    --config.models=/data/Qwen3-32B
python -m tttjax.main --config=configs/paper/tables6_7_32b.py:zero_scrolls --config.data=FOLDER \
    --config.models=/data/Qwen3-32B --config.mesh.tensor=4

PATH and FOLDER as in table4_longbench_v2.py and table5_zero_scrolls.py. In bfloat16 the weights
take 66 GB, keys and values of 131,072 tokens 34 GB, fast weights with their optimizer 32 GB: one
H200 of 141 GB is too tight for that and the temporaries, two of them hold it, or four chips of a
v5p (--config.mesh.tensor=2, 4). Not yet run by us. What the follow-up S-TTT (arXiv 2607.09415)
finds for 4B, half a point for qTTT, holds as a warning here too; it has no 32B.

Expected from counts, not measured: LongBench-v2 23 hours on two H200, 21 on a v5p 2x2x1;
ZeroSCROLLS 6 and 5 (assumptions as in configs/paper/table4_longbench_v2.py).
"""

from tttjax.experiment.paper import benchmark_config


def get_config(benchmark: str = "longbench_v2"):
  config = benchmark_config(benchmark, "tables6_7_32b")
  config.models = ("Qwen3-32B",)
  config.mesh.tensor = 2
  return config
