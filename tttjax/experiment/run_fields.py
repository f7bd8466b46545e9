"""The fields of a run: their names, defaults, types and meanings."""

import difflib

from ml_collections import config_dict

from tttjax.checkpoint import NAMED_MODELS, QWEN_TRAINED
from tttjax.errors import UserError
from tttjax.flags import fields
from tttjax.strategies import STRATEGIES
from tttjax.tasks import TASKS

# A budget that is not given but solved for, so that thinking and qTTT cost the same FLOPs.
MATCHED = "matched"
# The paper's rule for the thinking budget, M = 2 N k.
PAPER = "paper"
EMBEDDED = "embedded"
# With share_programs a program serves lengths from more than longest / this up to its longest.
SHARED_RANGE = 4

# name: (default, meaning). The default's type is the field's type.
_FIELDS = {
  "models": (
    (EMBEDDED,),
    "checkpoint directories in Hugging Face's layout, .gguf files,"
    f" or names: {', '.join(NAMED_MODELS)}",
  ),
  "tasks": (("bank_log",), f"of: {', '.join(TASKS)}; with options such as bank_log(kind=amount)"),
  "data": ("", "file or folder of the documents, for tasks that read some"),
  "unit": ("tokens", "of lengths: tokens, or native: the task's own (operations, lines)"),
  "lengths": (
    (256, 512, 1024, 2048),
    "context lengths; for documents the longest message, to which longer ones are cut",
  ),
  "contexts": (
    (8,),
    "contexts per length and seed, one number or one per length; they are the clusters of every"
    " standard error; of documents the first so many",
  ),
  "questions": (6, "questions per context at most, answered after one adaptation"),
  "seeds": ((0,), "of contexts, questions, span sampling and decoding"),
  "strategies": (
    ("in_context", "thinking", "qttt", "qttt_other_context"),
    f"of: {', '.join(STRATEGIES)}; with options such as qttt(learning_rate=3e-4)",
  ),
  "ttt.steps": (32, f"N, steps of qTTT, or '{MATCHED}' to thinking.budget"),
  "ttt.span": (
    32,
    "k, tokens per step; with native units a shorter context takes the largest"
    " power of two that fits",
  ),
  "ttt.learning_rate": (1e-3, "1e-3 for the embedded model, 1e-6 to 1e-5 for real Qwen3"),
  "ttt.weight_decay": (0.01, "AdamW's, towards zero query kernels"),
  "ttt.clip": (1.0, "largest global gradient norm"),
  "ttt.schedule": ("constant", "of the learning rate: constant, linear or cosine"),
  "ttt.span_kv": ("frozen", "the span's own keys and values: frozen (the paper's) or recomputed"),
  "thinking.budget": (
    MATCHED,
    f"M, thinking tokens, '{MATCHED}' to ttt.steps by exact FLOPs, or '{PAPER}': 2 N k",
  ),
  "thinking.temperature": (0.0, "of thoughts and of the answer after them; 0 is greedy"),
  "thinking.top_k": (20, "likeliest tokens kept; 0 keeps all"),
  "thinking.top_p": (0.95, "probability mass kept; 1 keeps all"),
  "thinking.end": (
    "",
    "text that ends a thought; '': the model's own, </think>, or Final: where it has no such token",
  ),
  "thinking.forced_stop": (
    "",
    "text inserted where the budget is used up, the end marker in it; '': a short one",
  ),
  "thinking.opener": (
    "",
    "first words of a thought; '': none, or Let's think step by step. for a model without </think>",
  ),
  "sampling.max_new_tokens": (0, "longest answer, tokens; 0: as long as the question needs"),
  "sampling.temperature": (0.0, "of answers without thinking; 0 is greedy"),
  "sampling.top_k": (0, "likeliest tokens kept; 0 keeps all"),
  "sampling.top_p": (1.0, "probability mass kept; 1 keeps all"),
  "yarn.factor": (
    0.0,
    "YaRN for models whose files ask for none: their positions become factor x original, 4.0 for"
    " 131,072 of a stock Qwen3; 0: as the files say",
  ),
  "yarn.original": (QWEN_TRAINED, "tokens that the model was trained on, for yarn.factor"),
  "mechanism": (True, "measure what the attention does to the evidence"),
  "share_programs": (
    False,
    f"lengths up to {SHARED_RANGE} times apart and questions of all tasks share compiled programs:"
    " sooner done where compiling dominates, but only the longest of them are timed",
  ),
  "batch_contexts": (
    1,
    "contexts that one program works on at a time, each with weights of its own: sooner done where"
    " reading the weights is what takes long, in as many times the memory",
  ),
  "attention": (
    "auto",
    "what computes attention over a cache: auto, portable, or pallas_tpu (docs/attention.md)",
  ),
  "mesh.data": (1, "groups of devices, each with contexts of its own"),
  "mesh.fsdp": (1, "devices that split every weight, and the batch"),
  "mesh.tensor": (1, "devices that split heads, MLP and vocabulary"),
  "mesh.context": (1, "devices that split the context's keys and values"),
  "tensorboard": (False, "write metrics for TensorBoard too (pip install 'tttjax[tensorboard]')"),
  "smoke": (
    False,
    "check that it runs: the embedded model in place of files, the shortest length, one context,"
    " few steps, short thoughts",
  ),
  "workdir": ("runs/quickstart", "where samples, results, figures and report go"),
}
DESCRIPTIONS = {name: meaning for name, (_, meaning) in _FIELDS.items()}
# May be a number or a word, so ConfigDict does not hold them to one type.
_BUDGETS = {"ttt.steps": (MATCHED,), "thinking.budget": (MATCHED, PAPER)}


def default_config() -> config_dict.ConfigDict:
  """Every field at its default; locked, so that a misspelt field is an error."""
  config = config_dict.ConfigDict()
  for name, (default, _) in _FIELDS.items():
    *parents, leaf = name.split(".")
    node = config
    for parent in parents:
      if parent not in node:
        node[parent] = config_dict.ConfigDict()
      node = node[parent]
    node[leaf] = (
      config_dict.FieldReference(default, field_type=object) if name in _BUDGETS else default
    )
  return config.lock()


def check_fields(config: config_dict.ConfigDict) -> None:
  """Exactly the fields of `default_config`, of their types: a config file may build its own."""
  values = dict(fields(config))
  for name in values:
    if name not in _FIELDS:
      close = difflib.get_close_matches(name, _FIELDS, n=1)
      hint = f"did you mean config.{close[0]}?" if close else "start from default_config()"
      raise UserError(f"config.{name}: no such field; {hint}")
  for name, (default, _) in _FIELDS.items():
    if name not in values:
      raise UserError(f"config.{name} is missing; start from tttjax.experiment.default_config()")
    value = values[name]
    if name in _BUDGETS:
      if value not in _BUDGETS[name] and (type(value) is not int or value < 0):
        words = " or ".join(map(repr, _BUDGETS[name]))
        raise UserError(f"config.{name}={value!r}: give a whole number, or {words}")
    elif isinstance(default, tuple):
      kind = type(default[0])
      if not isinstance(value, (tuple, list)) or any(type(item) is not kind for item in value):
        raise UserError(f"config.{name}={value!r}: give a list of {kind.__name__}")
    elif type(value) is not type(default):
      raise UserError(
        f"config.{name}={value!r} must be {type(default).__name__}, such as {default!r}"
      )
