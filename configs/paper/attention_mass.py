"""Tables 2 and 3: accuracy and attention mass on the evidence by length, with and without RoPE.

python -m tttjax.main --config=configs/paper/attention_mass.py
python -m tttjax.main --config=configs/paper/attention_mass.py:paper --config.models=/data/Qwen3-4B

The mass is the mean over layers, heads and output tokens: of thinking while it thinks and answers,
of the others while the reference answer is predicted. `rope=off` reads and answers without
rotation; the embedded model, trained with it, cannot do that.

A minute on two idle cores, the embedded model. Expected: accuracy .96, .81, .67 in context; nothing
right without RoPE.
"""

from tttjax.experiment.paper import sandbox_config


def get_config(size: str = "embedded"):
  config = sandbox_config(size, "attention_mass")
  config.strategies = ("in_context", "thinking", "thinking(rope=off)", "qttt")
  config.mechanism = True
  if size == "embedded":
    config.tasks = ("bank_log",)
    config.lengths = (512, 1024, 2048)
    return config
  config.tasks = ("transaction_log",)
  config.lengths = (512, 2536, 5120, 9560)
  return config
