"""The paper's controlled study in small: every strategy on logs, code, needles.

python -m tttjax.main --config=configs/sandbox.py
python -m tttjax.main --config=configs/sandbox.py --config.smoke=True        # that it runs

The embedded model, which runs unless --config.models says otherwise, can look up balances and
amounts; it has not learned the anomaly and has never seen prose logs or code, so its rows there
show the machinery, not the method. In smoke size two and a half minutes on two idle cores, most of
it compilation; in full size not measured.
Expected on balances: .75 in context at 1,200 tokens, .63 at 2,400.
"""

from tttjax.experiment import default_config


def get_config():
  config = default_config()
  config.workdir = "runs/sandbox"
  config.tasks = (
    "bank_log",
    "bank_log(kind=amount)",
    "bank_log(kind=anomaly)",
    "transaction_log",
    "code_bugs",
    "needles",
  )
  config.lengths = (1200, 2400)
  config.contexts = (6,)
  config.questions = 4
  config.seeds = (1,)
  config.strategies = (
    "in_context",
    "log_temperature",
    "thinking",
    "self_consistency(n=8, temperature=0.6)",
    "beam(n=8)",
    "qttt",
    "qttt(spans=oracle)",
    "qttt_thinking",
    "full_ttt",
    "qttt_other_context",
    "retrieve",
  )
  config.sampling.max_new_tokens = 48
  config.share_programs = True
  return config
