"""Figure 5 and Table 5: ZeroSCROLLS' eight tasks, in context, thinking and qTTT, with its control.

python -m tttjax.main --config=configs/paper/table5_zero_scrolls.py --config.data=FOLDER \
    --config.models=/data/Qwen3-1.7B,/data/Qwen3-4B,/data/Qwen3-8B

FOLDER holds the benchmark's zips (configs/zero_scrolls.py says more). The questions are those of
the validation splits, about 20 a task: the answers of the test splits may not be public. Which of
them the paper took we do not know. Its averages over GovReport, MuSiQue, NarrativeQA, QASPER,
QMSum, QuALITY, SQuALITY and SummScreenFD, in context / thinking / qTTT:

  1.7B  18.3 20.7 25.8
  4B    18.4 23.9 32.5
  8B    24.1 30.0 34.6

With 20 questions a task the standard error of such an average is about 3 points. Gains are said to
be large in retrieval and multi-hop questions, small in summaries. Not yet run by us, and
we know of no replication. On LongBench-v2 an independent group finds half a point (S-TTT, arXiv
2607.09415).

Expected from counts, not measured: 6 hours on one H200, 10 on one v5p chip, most of them thinking
(assumptions as in configs/paper/table4_longbench_v2.py, documents of 3,000 to 60,000 tokens).
"""

from tttjax.experiment.paper import benchmark_config


def get_config():
  config = benchmark_config("zero_scrolls", "table5")
  config.models = ("Qwen3-1.7B", "Qwen3-4B", "Qwen3-8B")
  return config
