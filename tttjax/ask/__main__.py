"""Answers questions about documents: reads them once, adapts to them, streams the answers.

  python -m tttjax.ask --model=smollm2 --context=FILE --question="..."
  python -m tttjax.ask --model=DIR --context=a.md --context=b.py     # asks for questions
  cat FILE | python -m tttjax.ask --model=FILE.gguf --context=- --question="..." --compare

The answer goes to standard output, what it cost to standard error. Several questions share one
reading and one adaptation. --save keeps what was adapted, --load answers with it.
"""

import dataclasses
import io
import sys

from absl import flags
import jax
import numpy as np

from tttjax import devices, spec
from tttjax import flags as command_line
from tttjax.ask import saved_context, terminal
from tttjax.ask.askable import check_askable
from tttjax.ask.conversation import Conversation, Settings, context_tokens
from tttjax.ask.document_text import context_of
from tttjax.ask.streaming_session import StreamingSession
from tttjax.checkpoint import QWEN_TRAINED, Checkpoint, open_checkpoint
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.errors import UserError
from tttjax.files import user_path
from tttjax.sharding import AXES, make_mesh
from tttjax.strategies import STRATEGIES, Strategy
from tttjax.strategies.adapting import Adapting
from tttjax.strategies.strategy import Result
from tttjax.ttt.hyperparameters import TTTConfig

_EMBEDDED = "embedded"
_DEFAULT = "qttt"
_PROMPT_TOKENS = 256  # that a question may have

_MODEL = flags.DEFINE_string("model", _EMBEDDED, "directory, .gguf file, smollm2 or embedded")
_CONTEXT = flags.DEFINE_multi_string(
  "context", [], "text file, or - for standard input; may be repeated"
)
_QUESTION = flags.DEFINE_multi_string("question", [], "repeatable; without one they are asked for")
_STRATEGY = flags.DEFINE_string(
  "strategy", None, f"with options; {_DEFAULT} if not given, or what --load was adapted by"
)
_COMPARE = flags.DEFINE_bool("compare", False, "in-context, thinking and the strategy side by side")
_STEPS = flags.DEFINE_integer("steps", 32, "N, gradient steps")
_SPAN = flags.DEFINE_integer(
  "span", None, "k, tokens per step; 128 if not given, 32 for the embedded model"
)
_RATE = flags.DEFINE_float("learning_rate", None, "1e-5 if not given, 1e-3 for the embedded model")
_MOST = flags.DEFINE_integer("max_new_tokens", 512, "longest answer, tokens")
_TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "of answers and thoughts; 0 is greedy")
_TOP_K = flags.DEFINE_integer("top_k", 20, "likeliest tokens kept; 0 keeps all")
_TOP_P = flags.DEFINE_float("top_p", 0.95, "probability mass kept; 1 keeps all")
_SEED = flags.DEFINE_integer("seed", 0, "of spans and sampling")
_CUT = flags.DEFINE_enum("cut", "none", ["none", "middle", "end"], "of a context that is too long")
_YARN = flags.DEFINE_float(
  "yarn", None, "factor of YaRN for a model whose files ask for none, such as 4.0"
)
_YARN_ORIGINAL = flags.DEFINE_integer(
  "yarn_original", QWEN_TRAINED, "tokens that the model was trained on, for --yarn"
)
_MESH = flags.DEFINE_list(
  "mesh", [], f"devices by axis ({', '.join(AXES)}), such as tensor=4,context=2"
)
_SAVE = flags.DEFINE_string("save", None, "directory for the fast weights of this context")
_SAVE_CACHE = flags.DEFINE_bool("save_cache", False, "with --save: its keys and values too")
_COMPILATION_CACHE = flags.DEFINE_bool(
  "compilation_cache", True, "keep compiled programs in $TTTJAX_CACHE or ~/.cache/tttjax"
)
_LOAD = flags.DEFINE_string("load", None, "directory of --save: answers without adapting")


def main() -> int:
  """Asks every question; exit code 0."""
  devices.check()
  devices.use_compilation_cache(_COMPILATION_CACHE.value)
  strategy = spec.parse(_STRATEGY.value or _DEFAULT, STRATEGIES, "--strategy")
  given = [flag.name for flag in (_STEPS, _SPAN, _RATE) if flag.present]
  check_askable(strategy, given)
  settings = _settings()
  if _SAVE_CACHE.value and not _SAVE.value:
    raise UserError("--save_cache needs --save=DIR")
  if not _CONTEXT.value and not _LOAD.value:
    raise UserError("--context is missing: give a text file, or - for standard input")
  if _LOAD.value and given:
    raise UserError(f"--load answers with what was adapted before: leave --{given[0]} out")
  if _SAVE.value:
    target = user_path(_SAVE.value, "--save")
    saved_context.check_target(target, strategy, settings.ttt.steps, _SAVE_CACHE.value)
  mesh = _mesh()
  checkpoint = _checkpoint()
  ids, saved = _context(checkpoint, settings)
  if saved:
    strategy = _loaded(strategy, saved)
    settings = dataclasses.replace(settings, ttt=saved.ttt)  # what thinking is matched to
  strategies = _compared(strategy) if _COMPARE.value else [strategy]
  if checkpoint.tokenizer.chat_template is None:
    print(
      "the model has no chat template: text and question stand one after the other", file=sys.stderr
    )
  interactive = not _QUESTION.value and not _SAVE.value
  if interactive and not sys.stdin.isatty():
    raise UserError("--question is missing, and no one can be asked: standard input is no terminal")
  session = StreamingSession.open(checkpoint, mesh)
  conversation = Conversation(checkpoint, session, ids, settings)
  if saved:
    saved.put_into(session, conversation.capacity)
  for question in _QUESTION.value:
    _answer(conversation, strategies, question)
  if _SAVE.value:
    _keep(conversation, strategy)
  if interactive:
    print(f"{terminal.spent(conversation.prepare(strategy))}; Ctrl-D ends", file=sys.stderr)
    for question in terminal.questions():
      try:
        _answer(conversation, strategies, question)
      except UserError as error:  # this question's; the next may be shorter
        print(error, file=sys.stderr)
  return 0


def _checkpoint() -> Checkpoint:
  checkpoint = open_checkpoint(_MODEL.value)
  if _YARN.value is None:
    if _YARN_ORIGINAL.present:
      raise UserError("--yarn_original is for --yarn, which is not given")
    return checkpoint
  try:
    return checkpoint.extended(_YARN.value, _YARN_ORIGINAL.value)
  except UserError as error:
    raise UserError(f"--yarn: {error}") from None


def _mesh() -> jax.sharding.Mesh | None:
  sizes = {}
  for item in _MESH.value:
    name, _, size = item.partition("=")
    if name not in AXES or name in sizes or not size.isdecimal():
      raise UserError(
        f"--mesh={','.join(_MESH.value)}: give each of {', '.join(AXES)} once at most, such as"
        " tensor=4,context=2"
      )
    sizes[name] = int(size)
  try:
    return make_mesh(**sizes) if sizes else None
  except UserError as error:
    raise UserError(f"--mesh: {error}") from None


def _settings() -> Settings:
  small = _MODEL.value == _EMBEDDED
  rate = _RATE.value if _RATE.value is not None else 1e-3 if small else 1e-5
  span = _SPAN.value if _SPAN.value is not None else 32 if small else 128
  if _MOST.value < 1:
    raise UserError(f"--max_new_tokens={_MOST.value}: at least 1")
  try:
    ttt = TTTConfig(steps=_STEPS.value, span=span, learning_rate=rate)
    SamplingConfig(temperature=_TEMPERATURE.value, top_k=_TOP_K.value, top_p=_TOP_P.value)
  except UserError as error:
    text = str(error).replace("TTTConfig.", "--").replace("SamplingConfig.", "--")
    raise UserError(text) from None
  return Settings(
    ttt,
    _MOST.value,
    _TEMPERATURE.value,
    _TOP_K.value,
    _TOP_P.value,
    _SEED.value,
  )


def _context(
  checkpoint: Checkpoint, settings: Settings
) -> tuple[np.ndarray, saved_context.Saved | None]:
  """The context's ids, and what was adapted to it before."""
  ids = None
  if _CONTEXT.value:
    ids = context_tokens(
      checkpoint.tokenizer,
      context_of(_CONTEXT.value),
      checkpoint.config.max_positions,
      settings.max_new_tokens + _PROMPT_TOKENS,
      _CUT.value,
    )
  if not _LOAD.value:
    return ids, None
  saved = saved_context.load_context(user_path(_LOAD.value, "--load"), checkpoint, ids)
  return saved.ids, saved


def _loaded(strategy: Strategy, saved: saved_context.Saved) -> Strategy:
  """The strategy that adapted what is loaded, unless one is asked for that does not adapt.

  Raises:
    UserError: another one that adapts is asked for.
  """
  own = spec.parse(saved.strategy, STRATEGIES, "--load")
  if not _STRATEGY.value:
    return own
  if isinstance(strategy, Adapting) and strategy != own:
    raise UserError(
      f"--load answers with what {saved.strategy} adapted: leave --strategy={_STRATEGY.value} out"
    )
  return strategy


def _compared(strategy: Strategy) -> list[Strategy]:
  """In-context, thinking and the strategy, each once."""
  every = [STRATEGIES["in_context"](), STRATEGIES["thinking"](), strategy]
  return list(dict.fromkeys(every))


def _answer(conversation: Conversation, strategies: list[Strategy], question: str) -> None:
  if len(strategies) == 1:
    growing = terminal.Growing(sys.stdout)
    result = _written(conversation, strategies[0], question, growing)
    print("" if growing.shown else result.predictions[0].answer)
    print(terminal.spent(result.cost), file=sys.stderr)
    return
  heads, texts = [], []
  for strategy in strategies:
    growing = terminal.Growing(io.StringIO())  # all are shown at the end
    result = _written(conversation, strategy, question, growing)
    heads.append(_label(strategy))
    texts.append(f"{result.predictions[0].answer}\n\n{terminal.spent(result.cost)}")
    if growing.stopped:
      break
  print(terminal.side_by_side(heads, texts))


def _written(
  conversation: Conversation, strategy: Strategy, question: str, growing: terminal.Growing
) -> Result:
  """The answer, which Ctrl-C ends; a fallback is said."""
  conversation.session.show = growing
  try:
    with terminal.stopping(growing):
      result = conversation.ask(question, strategy)
  finally:
    conversation.session.show = None
  if result.adaptation and result.adaptation.fallback:
    print(result.adaptation.fallback, file=sys.stderr)
  return result


def _label(strategy: Strategy) -> str:
  return spec.label(STRATEGIES, strategy.name, spec.options_of(strategy))


def _keep(conversation: Conversation, strategy: Strategy) -> None:
  """Saves what was adapted, adapting first where no question did."""
  if conversation.session.adapted is None:
    print(terminal.spent(conversation.prepare(strategy)), file=sys.stderr)
  directory = user_path(_SAVE.value, "--save")
  if _SAVE_CACHE.value:
    size = saved_context.cache_bytes(conversation) / 1e6
    print(f"the cache takes {size:,.1f} MB", file=sys.stderr)
  name = spec.canonical(strategy, STRATEGIES)
  saved_context.save_context(directory, conversation, name, _SAVE_CACHE.value)
  print(f"{directory}: saved; --load={directory} answers with it", file=sys.stderr)


if __name__ == "__main__":
  command_line.run(main)
