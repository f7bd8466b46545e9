"""The harness's --model_args, checked before a weight is read."""

import dataclasses
import difflib
import inspect
import math

import jax

from tttjax import spec
from tttjax.checkpoint import QWEN_TRAINED, Checkpoint, open_checkpoint
from tttjax.checks import check_flag, check_number
from tttjax.errors import UserError
from tttjax.lm_eval.context_split import WHOLE, ContextSplit
from tttjax.sharding import make_mesh
from tttjax.strategies import STRATEGIES, Strategy
from tttjax.strategies.adapting import Adapting
from tttjax.tasks.thinking_format import ThinkingFormat, format_of, has_section
from tttjax.ttt.hyperparameters import TTTConfig

_OFFERED = ("in_context", "qttt")
# Options that need what a request does not say, or that scoring does not have.
_REFUSED = ("stretch", "spans", "question")
_THINKING = {"thinking": "in_context", "qttt_thinking": "qttt"}
_AUTO_ROWS = 16  # of batch_size=auto
_DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class ModelArguments:
  """What the harness's arguments mean.

  Attributes:
    checkpoint: opened, not loaded.
    strategy: in_context or qttt.
    ttt: its steps.
    split: where contexts end.
    max_length: tokens of a request and what follows it.
    max_gen_toks: most tokens of an answer, where a task does not say.
    rows: requests about one context that are computed at once.
    mesh: devices; None is the default one.
    dtype: of parameters and activations; None is the platform's default.
    seed: of spans and of sampling.
    template: further arguments of the chat template.
    thinks: whether the chat template is asked for thoughts, or a budget for them is given.
    think_end: what ends thoughts, as text or as a token id; None keeps all that was written.
    thinking_budget: most tokens of a thought; None leaves that to the model.
    format: of thoughts with a budget.
    add_bos_token: put a token in front of every text; None is as the tokenizer does.
    prefix_token_id: in front of a text without context; None is the tokenizer's.
  """

  checkpoint: Checkpoint
  strategy: Strategy
  ttt: TTTConfig
  split: ContextSplit
  max_length: int
  max_gen_toks: int
  rows: int
  mesh: jax.sharding.Mesh | None
  dtype: str | None
  seed: int
  template: dict[str, bool]
  thinks: bool
  think_end: str | int | None
  thinking_budget: int | None
  format: ThinkingFormat | None
  add_bos_token: bool | None
  prefix_token_id: int | None


def parsed(
  pretrained: str | None = None,
  strategy: str = "in_context",
  steps: int | None = None,
  span: int | None = None,
  learning_rate: float | None = None,
  context_split: str | int = WHOLE,
  max_length: int | None = None,
  max_gen_toks: int = 256,
  data: int = 1,
  fsdp: int = 1,
  tensor: int = 1,
  context: int = 1,
  dtype: str | None = None,
  yarn: float | None = None,
  yarn_original: int = QWEN_TRAINED,
  seed: int = 0,
  enable_thinking: bool | None = None,
  think_end_token: str | int | None = None,
  thinking_budget: int | None = None,
  add_bos_token: bool | None = None,
  prefix_token_id: int | None = None,
  batch_size: int | str = "auto",
  max_batch_size: int | None = None,
  device: str | None = None,
  **unknown,
) -> ModelArguments:
  """Checks every argument; docs/lm_eval.md says what they mean.

  Args:
    device: not read, because the harness's own default for it is cuda:0; JAX knows its devices.

  Raises:
    UserError: names the first argument that is wrong, and the remedy.
  """
  for name in unknown:
    _refuse_unknown(name)
  if not pretrained:
    raise UserError(
      "pretrained is missing: give --model_args pretrained=PATH, a Hugging Face directory, a .gguf"
      " file, embedded or smollm2"
    )
  own = {"steps": steps, "span": span, "learning_rate": learning_rate}
  chosen = _strategy(strategy, own)
  ttt = TTTConfig()
  if isinstance(chosen, Adapting):
    try:
      chosen = dataclasses.replace(chosen, **{k: v for k, v in own.items() if v is not None})
    except UserError as error:
      raise UserError(str(error).replace("TTTConfig.", "")) from None
    ttt = chosen.hyperparameters(ttt)
  split = ContextSplit.of(context_split)
  mesh = _mesh(data=data, fsdp=fsdp, tensor=tensor, context=context)
  dtype = None if dtype in (None, "auto") else dtype
  if dtype not in (None, *_DTYPES):
    raise UserError(f"dtype={dtype}: choose auto, {', '.join(_DTYPES)}")
  rows = _rows(batch_size, max_batch_size)
  seed = check_number("seed", seed, 0, 2**31 - 1, whole=True)
  max_gen_toks = check_number("max_gen_toks", max_gen_toks, 1, whole=True)
  for name, flag in (("enable_thinking", enable_thinking), ("add_bos_token", add_bos_token)):
    if flag is not None:
      check_flag(name, flag)
  if thinking_budget is not None:
    thinking_budget = check_number("thinking_budget", thinking_budget, 1, whole=True)

  checkpoint = open_checkpoint(str(pretrained))
  if yarn is not None:
    try:
      checkpoint = checkpoint.extended(yarn, yarn_original)
    except UserError as error:
      raise UserError(f"yarn: {error}") from None
  most = checkpoint.config.max_positions
  max_length = most if max_length is None else check_number("max_length", max_length, 2, whole=True)
  if max_length > most:
    raise UserError(
      f"max_length={max_length} must be at most the {most} positions that the checkpoint's"
      " config.json gives the model; lower it, or give yarn"
    )
  if prefix_token_id is not None:
    last = checkpoint.config.vocab_size - 1
    prefix_token_id = check_number("prefix_token_id", prefix_token_id, 0, last, whole=True)
  thinks = bool(enable_thinking) or thinking_budget is not None
  end, thoughts = _thoughts(checkpoint, thinks, think_end_token, thinking_budget)
  template = {} if enable_thinking is None and not thinks else {"enable_thinking": thinks}
  return ModelArguments(
    checkpoint=checkpoint,
    strategy=chosen,
    ttt=ttt,
    split=split,
    max_length=max_length,
    max_gen_toks=max_gen_toks,
    rows=rows,
    mesh=mesh,
    dtype=dtype,
    seed=seed,
    template=template,
    thinks=thinks,
    think_end=end,
    thinking_budget=thinking_budget,
    format=thoughts,
    add_bos_token=add_bos_token,
    prefix_token_id=prefix_token_id,
  )


def _refuse_unknown(name: str) -> None:
  known = [n for n, p in inspect.signature(parsed).parameters.items() if p.kind != p.VAR_KEYWORD]
  close = difflib.get_close_matches(name, known, n=1)
  hint = f"did you mean {close[0]}?" if close else f"they are {', '.join(known)}"
  raise UserError(f"{name}: the model tttjax has no such argument; {hint}")


def _strategy(text: str, own: dict) -> Strategy:
  """The strategy that a spec names, of those that requests can be put to."""
  text = str(text)
  if text.count("(") != text.count(")"):
    raise UserError(
      f"strategy={text}: the harness cuts --model_args at every comma; give steps, span and"
      " learning_rate as arguments of their own: strategy=qttt,steps=32,span=128"
    )
  strategy = spec.parse(text, STRATEGIES, "strategy")
  name = strategy.name
  if name in _THINKING:
    raise UserError(
      f"strategy={name}: give strategy={_THINKING[name]} and thinking_budget=M, the tokens of a"
      " thought"
    )
  if name not in _OFFERED:
    raise UserError(f"strategy={name}: the harness's requests have {' or '.join(_OFFERED)}")
  options = spec.options_of(strategy)
  for option in _REFUSED:
    if option in options:
      raise UserError(f"strategy: the harness's requests have no {option}; leave it out")
  for option, value in own.items():
    if value is None:
      continue
    if not isinstance(strategy, Adapting):
      raise UserError(f"{option}={value} has no part in strategy={name}; give strategy=qttt")
    if option in options:
      raise UserError(f"{option} is given twice, in strategy and by itself; remove one")
  return strategy


def _mesh(**sizes: int) -> jax.sharding.Mesh | None:
  for name, size in sizes.items():
    check_number(name, size, 1, whole=True)
  return make_mesh(**sizes) if math.prod(sizes.values()) > 1 else None


def _rows(batch_size, most: int | None) -> int:
  """Requests about one context at once."""
  if isinstance(batch_size, str) and batch_size.split(":")[0] == "auto":
    return _AUTO_ROWS if most is None else check_number("max_batch_size", most, 1, whole=True)
  if isinstance(batch_size, str) and batch_size.isdecimal():
    batch_size = int(batch_size)
  if not isinstance(batch_size, int):
    raise UserError(f"batch_size={batch_size}: give a whole number, or auto")
  return check_number("batch_size", batch_size, 1, whole=True)


def _thoughts(
  checkpoint: Checkpoint, thinks: bool, end: str | int | None, budget: int | None
) -> tuple[str | int | None, ThinkingFormat | None]:
  """(What ends a thought in outputs, the format of thoughts with a budget)."""
  if isinstance(end, str) and end.isdecimal():
    end = int(end)
  if not thinks:
    return end, None
  tokenizer = checkpoint.tokenizer
  if budget is None:
    if end is None and not has_section(tokenizer):
      raise UserError(
        "enable_thinking=True: the tokenizer has no </think>; give think_end_token, the text that"
        " ends a thought, or thinking_budget"
      )
    return (format_of(tokenizer).end if end is None else end), None
  if isinstance(end, int):
    end = tokenizer.convert_ids_to_tokens(end)
  thoughts = format_of(tokenizer, end or "")
  return thoughts.end, thoughts
