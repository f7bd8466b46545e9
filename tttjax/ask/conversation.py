"""Questions about one context: as cases for the strategies, with the budget that they share."""

import dataclasses

import jax
import numpy as np

from tttjax.ask.streaming_session import StreamingSession
from tttjax.attention.caches import round_capacity
from tttjax.checkpoint import Checkpoint
from tttjax.errors import UserError
from tttjax.session import Cost, Room
from tttjax.sharding import axis_size
from tttjax.strategies.adapting import Adapting
from tttjax.strategies.budget import Budget, Lengths
from tttjax.strategies.case import Case
from tttjax.strategies.model_decoding import decoding_of
from tttjax.strategies.strategy import Result, Strategy
from tttjax.tasks import prompt
from tttjax.tasks.example import Example, Question
from tttjax.tasks.prompt_tokens import encode_context, encode_text
from tttjax.tasks.thinking_format import format_of
from tttjax.ttt.hyperparameters import TTTConfig

# Tokens of a question that a budget allows for, whatever the question has: the same steps for all.
_PROMPT_TOKENS = 256
_ROUNDED = 64  # tokens of a prompt, so that one program serves most
_LEAST_CONTEXT = 16  # tokens that are worth cutting one to


@dataclasses.dataclass(frozen=True)
class Settings:
  """How questions are answered.

  Attributes:
    ttt: steps, span and optimizer; a span that the context does not hold is shortened.
    max_new_tokens: longest answer.
    temperature, top_k, top_p: of answers and thoughts.
    seed: of spans and sampling.
  """

  ttt: TTTConfig
  max_new_tokens: int = 512
  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0
  seed: int = 0


class Conversation:
  """One context that is read and adapted to once, and the questions about it."""

  def __init__(
    self,
    checkpoint: Checkpoint,
    session: StreamingSession,
    context: np.ndarray,
    settings: Settings,
  ):
    """Args: context: token ids int32 [T], as `context_tokens` makes them."""
    self.checkpoint, self.session, self.settings = checkpoint, session, settings
    self.context = np.asarray(context, np.int32)
    self._thoughts = format_of(checkpoint.tokenizer)
    chosen = {name: getattr(settings, name) for name in ("temperature", "top_k", "top_p")}
    self._decoding = decoding_of(
      checkpoint, self._thoughts, (settings.max_new_tokens,), chosen, chosen
    )
    tokens = len(self.context)
    lengths = Lengths(
      checkpoint.config, tokens, _PROMPT_TOKENS, settings.max_new_tokens, tokens, cut_spans=True
    )
    if tokens < 3:
      raise UserError(f"--context has {tokens} tokens: too few to train on; give a longer text")
    ttt = dataclasses.replace(settings.ttt, span=lengths.fitting_span(settings.ttt.span))
    self.budget = Budget.of_steps(lengths, ttt, settings.temperature)
    self._charged: set[Strategy] = set()  # whose reading was counted

  @property
  def capacity(self) -> int:
    """Slots of the context's cache."""
    return round_capacity(len(self.context), axis_size(self.session.model.mesh, "context"))

  @property
  def _key(self) -> jax.Array:
    return jax.random.key(self.settings.seed)

  def ask(self, question: str, strategy: Strategy) -> Result:
    """Answers one question.

    Raises:
      UserError: context, question and answer together need more positions than the model has.
    """
    case, allowance = self._case(question), strategy.allowance(self.budget)
    longest = max(map(len, case.prompts + case.thinking_prompts))
    after = longest + self.settings.max_new_tokens + (allowance.thinking_tokens or 0)
    if len(self.context) + after > self._decoding.positions:
      raise UserError(self._too_long(longest, allowance.thinking_tokens or 0))
    result = strategy(self.session, case, allowance, self._key)
    return dataclasses.replace(result, cost=self._charge(strategy, result.cost))

  def _too_long(self, question: int, thoughts: int) -> str:
    """What takes which part of the positions, and the remedy for the largest."""
    answer = self.settings.max_new_tokens
    parts = [
      (len(self.context), "the context", "cut the context (--cut=middle)"),
      (answer, "the answer", "lower --max_new_tokens"),
      (thoughts, "thoughts", "lower --steps, whose FLOPs they are matched to"),
    ]
    others = sum(tokens for tokens, _, _ in parts)
    remedy = max(parts)[2]
    if others + _PROMPT_TOKENS <= self._decoding.positions:  # a question of the usual length fits
      remedy = "ask a shorter question"
    listed = [f"{name} {tokens:,}" for tokens, name, _ in parts if tokens]
    return (
      f"of the model's {self._decoding.positions:,} positions {', '.join(listed)} and the question"
      f" {question:,} are needed: too many; {remedy}"
    )

  def _charge(self, strategy: Strategy, cost: Cost) -> Cost:
    """The cost, with reading the context in it for the strategy's first question alone."""
    if strategy not in self._charged:
      self._charged.add(strategy)
      return cost
    return Cost(tuple(phase for phase in cost.phases if phase.name != "prefill"))

  def prepare(self, strategy: Strategy) -> Cost:
    """Reads the context and adapts to it, as the first question would; what that costs."""
    case, allowance = self._case(""), strategy.allowance(self.budget)
    if not isinstance(strategy, Adapting):
      return self._charge(strategy, self.session.read(case.tokens, case.capacity)[1])
    context, reading = strategy.read(self.session, case)
    span_key, _ = jax.random.split(self._key)
    adapting = strategy.adapt(self.session, case, context, allowance, span_key)[2]
    return self._charge(strategy, reading + adapting)

  def _case(self, question: str) -> Case:
    tokenizer = self.checkpoint.tokenizer
    asked = prompt.render(tokenizer, "", prompt.headed(question.strip()))
    prompts = encode_text(tokenizer, asked.text, asked.asked)
    thinking = encode_text(tokenizer, asked.thinking_text + self._thoughts.opener, asked.asked)
    width = -(-max(len(prompts), len(thinking)) // _ROUNDED) * _ROUNDED
    example = Example(
      context="",
      questions=(Question(asked.text, asked.thinking_text, (), (), self.settings.max_new_tokens),),
      num_tokens=len(self.context),
      line_starts=(),
      key="",
    )
    return Case(
      example=example,
      tokens=self.context[None],
      capacity=self.capacity,
      prompts=(prompts,),
      thinking_prompts=(thinking,),
      answers=((),),
      room=Room(1, width),
      extract=lambda text: " ".join(text.split()).lower() or None,
      decoding=self._decoding,
    )


def context_tokens(tokenizer, text: str, positions: int, room: int, cut: str) -> np.ndarray:
  """Token ids of a context under the chat template's header.

  Args:
    text: the user's text up to the question; ends with a line break.
    positions: that the model has.
    room: of these, tokens that question and answer need.
    cut: where a context that is too long is cut: 'none', 'middle' or 'end'.

  Raises:
    UserError: it is too long and not to be cut.
  """
  rendered = prompt.render(tokenizer, text, "")
  ids, _ = encode_context(tokenizer, rendered.context, rendered.header)
  most = positions - room
  if len(ids) <= most:
    return ids
  if most < _LEAST_CONTEXT:
    raise UserError(
      f"of the model's {positions:,} positions {room:,} are for question and answer, which leaves"
      " none for the context; lower --max_new_tokens"
    )
  if cut == "none" and room > len(ids):
    raise UserError(
      f"the context has {len(ids):,} tokens; of the model's {positions:,} positions {room:,} are"
      " for question and answer; lower --max_new_tokens, or cut with --cut=middle or --cut=end"
    )
  if cut == "none":
    raise UserError(
      f"the context has {len(ids):,} tokens; of the model's {positions:,} positions {room:,} are"
      f" for question and answer: {len(ids) - most:,} tokens have to go. Cut it yourself,"
      " or with --cut=middle or --cut=end"
    )
  keep = most if cut == "end" else most // 2
  return np.concatenate([ids[:keep], ids[len(ids) - (most - keep) :]])
