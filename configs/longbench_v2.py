"""LongBench-v2: in-context, thinking at matched FLOPs, qTTT and its control on another document.

python -m tttjax.main --config=configs/longbench_v2.py --config.data=PATH --config.models=DIR
python -m tttjax.main --config=configs/longbench_v2.py:cot --config.data=PATH --config.models=DIR
python -m tttjax.main --config=configs/longbench_v2.py --config.data=PATH --config.smoke=True

PATH is the benchmark's data.json (503 questions), .jsonl or .parquet, a folder that holds it, or
hub:THUDM/LongBench-v2, which the package datasets fetches.
Options keep some of it: --config.tasks="longbench_v2(domain='Single-Document QA')",
longbench_v2(difficulty=hard), longbench_v2(ids='ID ID'); --config.contexts=50 asks about the first
50 documents. prompts=official takes the benchmark's prompts from PATH's folder `prompts`.

Messages are cut in their middle to 120,000 tokens, or to what the model has positions for; answers
are sampled at temperature 0.1 as the benchmark does.
"""

from tttjax.errors import UserError
from tttjax.experiment import default_config

_TASKS = {"": "longbench_v2", "cot": "longbench_v2(cot=on)"}


def get_config(protocol: str = ""):
  if protocol not in _TASKS:
    raise UserError(f"protocol {protocol!r}: choose cot, or leave it out")
  config = default_config()
  config.workdir = f"runs/longbench_v2{protocol and '-'}{protocol}"
  config.tasks = (_TASKS[protocol],)
  config.lengths = (120_000,)
  config.contexts = (503,)
  config.questions = 100
  config.strategies = ("in_context", "thinking", "qttt", "qttt_other_context")
  config.ttt.span = 128
  config.ttt.learning_rate = 1e-5
  config.sampling.temperature = 0.1
  config.thinking.temperature = 0.6
  return config
