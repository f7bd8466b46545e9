"""The model `tttjax` of lm-evaluation-harness, which calls itself lm_eval too.

language_model.py     what the harness calls; the only file here that imports it
model_arguments.py    --model_args, checked
context_split.py      where a request's context ends and its question begins
adapted_contexts.py   a context read and adapted to once for all of its requests
"""
