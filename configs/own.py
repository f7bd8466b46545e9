"""Your own documents and questions: in-context, thinking at matched FLOPs, qTTT.

python -m tttjax.main --config=configs/own.py --config.data=FILE --config.models=DIR
python -m tttjax.main --config=configs/own.py --config.data=FILE --config.smoke=True

Each line of FILE is {"id": ..., "context": TEXT or "context_file": PATH, "question": TEXT,
"answers": [TEXT, ...] or "choices": [TEXT, ...] and "answer": "A"}, if you like with "metric" (f1,
exact, contains or rouge), "max_new_tokens" and "metadata", which is not read (docs/own_data.md).
Questions about one document share its adaptation.
With several documents add qttt_other_context to --config.strategies: the control that trains on
another one. Documents beyond 120,000 tokens, or beyond what the model has positions for, are cut in
their middle.
"""

from tttjax.experiment import default_config


def get_config():
  config = default_config()
  config.workdir = "runs/own"
  config.tasks = ("own",)
  config.lengths = (120_000,)
  config.contexts = (5_000,)
  config.questions = 100
  config.strategies = ("in_context", "thinking", "qttt")
  config.ttt.learning_rate = 1e-5
  return config
