"""Figure 1a: accuracy against length on code bugs, in three strategies and the control.

python -m tttjax.main --config=configs/paper/fig1a.py
python -m tttjax.main --config=configs/paper/fig1a.py:paper --config.models=/data/Qwen3-4B

A line of real Python source carries a logical bug; L lines around it and then other files are the
haystack. The first command runs the embedded model on lengths in tokens: it was never trained on
code and spells it in bytes, so it shows the machinery and no more. The second is the paper's:
Qwen3-4B, L = 5 .. 10,000 lines of OLMo (python -m tttjax.third_party --fetch=olmo); beyond about
2,000 lines it needs a checkpoint with YaRN in its config.json, or a 2507 one. The haystacks of a
large L are parts of one source tree, so the control's other context is not altogether another.

A minute on two idle cores, the embedded model. Expected: nothing right at any length.
"""

from tttjax.experiment.paper import sandbox_config


def get_config(size: str = "embedded"):
  config = sandbox_config(size, "fig1a")
  config.strategies = ("in_context", "thinking", "qttt", "qttt_other_context")
  config.questions = 1
  if size == "embedded":
    config.tasks = ("code_bugs",)
    config.lengths = (512, 1024, 2048)
    config.sampling.max_new_tokens = 48
    return config
  config.tasks = ("code_bugs(source=olmo)",)
  config.unit = "native"
  config.lengths = (5, 10, 50, 100, 500, 1000, 2500, 5000, 10000)
  return config
