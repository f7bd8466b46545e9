"""ZeroSCROLLS: all ten tasks; in-context, thinking at matched FLOPs, qTTT and its control.

python -m tttjax.main --config=configs/zero_scrolls.py --config.data=FOLDER --config.models=DIR
python -m tttjax.main --config=configs/zero_scrolls.py:test --config.data=FOLDER --config.models=DIR
python -m tttjax.main --config=configs/zero_scrolls.py --config.data=FOLDER --config.smoke=True

FOLDER holds the benchmark's zips (gov_report.zip, ...), or their folders. The validation splits
have about 20 questions a task; the answers of the test splits may not be public: then nothing is
scored and submissions/ in the work directory has the files that the benchmark's site takes.

Messages lose the end of their document beyond 120,000 tokens, or beyond what the model has
positions for.
"""

from tttjax.errors import UserError
from tttjax.experiment import default_config

_TASKS = (
  "gov_report",
  "summ_screen_fd",
  "qmsum",
  "squality",
  "qasper",
  "narrative_qa",
  "quality",
  "musique",
  "space_digest",
  "book_sum_sort",
)


def get_config(split: str = "validation"):
  if split not in ("validation", "test"):
    raise UserError(f"split {split!r}: choose validation or test")
  config = default_config()
  config.workdir = f"runs/zero_scrolls-{split}"
  own = "" if split == "validation" else f", split={split}"
  config.tasks = tuple(f"zero_scrolls(task={task}{own})" for task in _TASKS)
  config.lengths = (120_000,)
  config.contexts = (5_000,)
  config.questions = 100
  config.strategies = ("in_context", "thinking", "qttt", "qttt_other_context")
  config.ttt.span = 128
  config.ttt.learning_rate = 1e-5
  return config
