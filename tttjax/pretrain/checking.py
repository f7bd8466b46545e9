"""The check of a training config, field by field, before anything is made."""

from tttjax.checks import check_number
from tttjax.errors import UserError
from tttjax.flags import fields
from tttjax.pretrain import embedded_config
from tttjax.pretrain.data import SHORTEST_WITH_ANOMALY
from tttjax.tasks.synthetic.bank_log import BankLog

_MOST = 2**31 - 1  # of what becomes an int32, or a key of jax
_WHOLE = ("steps", "warmup", "log_every", "eval_every", "save_every")
_SIZES = ("hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "head_dim")
_SHORTEST_CONTEXT = 64  # tokens; its half has room for a line to ask about


def check(config) -> None:
  """Raises UserError that names the first field that is wrong."""
  known, values = dict(fields(embedded_config.get_config())), dict(fields(config))
  for name in {**known, **values}:
    if name not in known or name not in values:
      problem = "no such field" if name not in known else "is missing"
      raise UserError(f"config.{name}: {problem}; configs/pretrain_embedded.py has them all")
    if isinstance(known[name], tuple) and not isinstance(values[name], (tuple, list)):
      raise UserError(f"config.{name}={values[name]!r}: give a list, such as {known[name]}")
    if name.startswith("stages.") and not values[name]:
      raise UserError(f"config.{name} is empty; give at least one stage")

  def number(name, low, high=_MOST, **kinds):
    for one in values[name] if isinstance(known[name], tuple) else (values[name],):
      check_number(f"config.{name}", one, low, high, **kinds)

  if not isinstance(config.workdir, str):
    raise UserError(f"config.workdir={config.workdir!r} must be a path")
  number("seed", 0, whole=True)
  sizes = [f"model.{name}" for name in (*_SIZES, "max_positions")]
  evaluation = [f"eval.{name}" for name in ("examples", "questions", "contexts")]
  for name in (*_WHOLE, *sizes, *evaluation):
    number(name, 1, whole=True)
  if config.warmup > config.steps:
    raise UserError(f"config.warmup={config.warmup} must be at most config.steps={config.steps}")
  number("minutes", 0)
  for name in ("muon_rate", "adam_rate"):
    number(name, 0, above=True)
  number("weight_decay", 0)
  number("model.rope_theta", 1, above=True)
  if config.model.num_heads % config.model.num_kv_heads:
    raise UserError(
      f"config.model.num_kv_heads={config.model.num_kv_heads} must divide"
      f" config.model.num_heads={config.model.num_heads}"
    )
  if config.model.head_dim % 2:
    raise UserError(f"config.model.head_dim={config.model.head_dim} must be even")
  shortest = SHORTEST_WITH_ANOMALY if any(config.stages.anomaly) else _SHORTEST_CONTEXT
  number("stages.context", shortest, config.model.max_positions, whole=True)
  number("stages.row", 1, config.model.max_positions, whole=True)
  number("stages.batch", 1, whole=True)
  number("stages.share", 0, above=True)
  number("stages.anomaly", 0, 1)
  number("stages.thinking", 0, 1)
  number("stages.amount", 0, 1, below=True)  # a log may have no transfer to ask for
  for kind in config.eval.kinds:
    for context in config.eval.contexts:
      try:
        BankLog(kind, needles=config.eval.questions).check(context, True)
      except UserError as error:
        raise UserError(f"config.eval: {error}") from None
