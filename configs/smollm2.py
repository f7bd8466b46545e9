"""Does it work on a real pretrained model: needles in prose, SmolLM2-135M, with every control.

python -m tttjax.third_party --fetch=smollm2                        # once; needs the extra gguf
python -m tttjax.main --config=configs/smollm2.py                   # the study, hours on two cores
python -m tttjax.main --config=configs/smollm2.py:rates             # rates, on contexts of seed 0
python -m tttjax.main --config=configs/smollm2.py:thinking          # matched, fewer contexts
python -m tttjax.main --config=configs/smollm2.py:shortest          # full_ttt, 512 tokens alone
python -m tttjax.main --config=configs/smollm2.py --config.smoke=True   # under two minutes

Eight values of seven digits at random depths of English prose, asked for one by one: 60 contexts of
8 questions up to 2,048 tokens and 24 at 4,096, the same needles at every length. The rate was
chosen on seed 0 (:rates, docs/real_model/README.md); these are contexts of seed 1. A run may be
stopped at any time and goes on where it was: the lengths come one after another, so that a part of
it is a study of its own.
"""

from tttjax.errors import UserError
from tttjax.experiment import default_config

_RATES = (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3)
_STRATEGIES = {
  "study": (
    "in_context",
    "log_temperature(trained=8192)",
    "log_temperature(trained=2048)",
    "qttt",
    "qttt_other_context",
    "qttt(question=before)",
    "qttt(spans=oracle)",
    "qttt_other_context(spans=oracle)",
    "retrieve",
  ),
  "thinking": ("in_context", "thinking", "self_consistency(n=4, temperature=0.6)", "qttt"),
  "rates": ("in_context", *(f"qttt(learning_rate={rate})" for rate in _RATES)),
  "shortest": ("in_context", *(f"full_ttt(learning_rate={rate})" for rate in (1e-5, 1e-4))),
}


def get_config(part: str = "study"):
  if part not in _STRATEGIES:
    raise UserError(f"part {part!r}: choose one of {', '.join(_STRATEGIES)}")
  config = default_config()
  config.workdir = f"runs/smollm2-{part}"
  config.models = ("smollm2",)
  config.tasks = ("needles(needles=8)",)
  config.lengths = (512, 1024, 2048, 4096)
  config.contexts = (60, 60, 60, 24)
  config.questions = 8
  config.seeds = (1,)
  config.strategies = _STRATEGIES[part]
  config.ttt.steps = 32
  config.ttt.span = 32
  config.ttt.learning_rate = 1e-4
  if part == "rates":
    config.seeds, config.lengths, config.contexts = (0,), (1024,), (12,)
  if part == "thinking":
    config.lengths, config.contexts = (512, 1024, 2048), (24,)
  if part == "shortest":
    config.lengths, config.contexts = (512,), (60,)
  return config
