"""How tokens are chosen and when a row stops."""

import dataclasses

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from tttjax.checks import check_ids, check_kind, check_number, check_numbers, is_concrete
from tttjax.decode.end_markers import TextEnd, TextMarker, TokenEnd
from tttjax.errors import UserError

# Id lists are padded to these widths, so that another list compiles nothing new.
_MAX_STOP_IDS, _MAX_FORCED_IDS = 16, 64
_NO_LIMIT = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
  """Sampling, stopping and the thinking budget. Static: max_new_tokens alone; all else is traced.

  Arrays of no axes become Python's numbers, lists and arrays of ids tuples. Inside a caller's jit
  the numbers may be traced, but neither max_new_tokens nor the ids.

  Attributes:
    max_new_tokens: size of the output, thinking included.
    temperature: 0 is greedy. Filters apply after it, in the order top-k, top-p, min-p.
    top_k: keep the k likeliest tokens; 0 keeps all.
    top_p: keep the likeliest tokens whose probabilities reach this sum; 1 keeps all.
    min_p: keep tokens of at least this share of the likeliest one's probability; 0 keeps all.
    stop_ids: tokens that end a row; the stop token is part of the output.
    thinking_budget: M. The prompt ended by opening a thinking section; if `end_think` has not
      come after M tokens, `forced_stop_ids` are inserted and the answer goes on. Room for an
      answer must be left in max_new_tokens. None: the row starts in its answer.
    end_think: what closes the thinking section: the id of a token (`</think>`), or a `text_marker`
      for a model without one.
    forced_stop_ids: what is inserted, all of it part of the thinking section; it holds end_think
      once, as a rule last or followed by newlines.
    max_answer_tokens: most tokens after the thinking section, one number or one of each row; None
      is no limit but max_new_tokens.

  Raises:
    UserError: a value that is not of its field's type or range.
  """

  max_new_tokens: int = 64
  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  stop_ids: tuple[int, ...] = ()
  thinking_budget: int | None = None
  end_think: int | TextMarker | None = None
  forced_stop_ids: tuple[int, ...] = ()
  max_answer_tokens: int | tuple[int, ...] | None = None

  def __post_init__(self):
    def check(name, *limits, by=check_number, **kind):
      value = by(f"SamplingConfig.{name}", getattr(self, name), *limits, **kind)
      object.__setattr__(self, name, value)

    check("max_new_tokens", 1, _NO_LIMIT, whole=True, static=True)
    check("temperature", 0)
    check("top_k", 0, _NO_LIMIT, whole=True)
    check("top_p", 0, 1)
    check("min_p", 0, 1)
    if isinstance(self.max_answer_tokens, (tuple, list)):
      check("max_answer_tokens", 1, _NO_LIMIT, by=check_numbers)
    elif self.max_answer_tokens is not None:
      check("max_answer_tokens", 1, _NO_LIMIT, whole=True)
    check("stop_ids", _MAX_STOP_IDS, _NO_LIMIT, by=check_ids)
    check("forced_stop_ids", _MAX_FORCED_IDS, _NO_LIMIT, by=check_ids)
    if self.end_think is not None and not isinstance(self.end_think, TextMarker):
      check("end_think", 0, _NO_LIMIT, whole=True, static=True)
    if self.thinking_budget is not None:
      check("thinking_budget", 0, _NO_LIMIT, whole=True)
      self._check_thinking()

  def _check_thinking(self) -> None:
    if not self.forced_stop_ids or self.end_think is None:
      raise UserError(
        "SamplingConfig.thinking_budget needs end_think and forced_stop_ids: without them the"
        " thinking section could not be closed"
      )
    if isinstance(self.end_think, TextMarker):
      # Ids beyond the vocabulary are refused where the model is known.
      known = [token for token in self.forced_stop_ids if token < len(self.end_think.table)]
      count, end = self.end_think.count(known), repr(self.end_think.text)
    else:
      count, end = list(self.forced_stop_ids).count(self.end_think), self.end_think
    if count != 1:
      raise UserError(
        f"SamplingConfig.forced_stop_ids must hold end_think {end} once, not {count} times"
      )
    thinking = self.thinking_budget, len(self.forced_stop_ids)
    if is_concrete(self.thinking_budget) and sum(thinking) >= self.max_new_tokens:
      raise UserError(
        f"SamplingConfig.thinking_budget {thinking[0]} and {thinking[1]} forced_stop_ids leave no"
        f" room for an answer in max_new_tokens {self.max_new_tokens}: raise it to at least"
        f" {sum(thinking) + 1} or lower the budget"
      )

  def _ids(self) -> list[tuple[str, int]]:
    """Every token id, with the field that it is in."""
    no_id = self.end_think is None or isinstance(self.end_think, TextMarker)
    fields = {
      "stop_ids": self.stop_ids,
      "forced_stop_ids": self.forced_stop_ids,
      "end_think": () if no_id else (self.end_think,),
    }
    return [(name, token) for name, ids in fields.items() for token in ids]

  def check_vocabulary(self, vocab_size: int) -> None:
    """Raises UserError where an id is outside the vocabulary: such a token could never come."""
    for name, token in self._ids():
      if token >= vocab_size:
        raise UserError(
          f"SamplingConfig.{name} holds token id {token}, outside the model's vocabulary of"
          f" {vocab_size}: was it made with another model's tokenizer?"
        )
    if isinstance(self.end_think, TextMarker):
      self.end_think.check_vocabulary(vocab_size)

  def of_rows(self, each: int, more: int = 0) -> "SamplingConfig":
    """The same for `each` rows in the place of each one, and then `more` like the first."""
    if not isinstance(self.max_answer_tokens, tuple):
      return self
    limits = np.repeat(self.max_answer_tokens + self.max_answer_tokens[:1] * more, each)
    return dataclasses.replace(self, max_answer_tokens=tuple(limits.tolist()))

  def traced(self, rows: int) -> "Sampling":
    """The traced part, for so many rows.

    Raises:
      UserError: it is for another number of rows.
    """
    limits = self.max_answer_tokens
    if isinstance(limits, tuple) and len(limits) != rows:
      raise UserError(
        f"SamplingConfig.max_answer_tokens holds {len(limits)} limits for {rows} rows: give one"
        " number, or one of each row"
      )
    i32 = lambda x: jnp.asarray(x, jnp.int32)
    f32 = lambda x: jnp.asarray(x, jnp.float32)
    pad = lambda ids, width: np.asarray(tuple(ids) + (-1,) * (width - len(ids)), np.int32)
    thinking = self.thinking_budget is not None
    return Sampling(
      temperature=f32(self.temperature),
      top_k=i32(self.top_k),
      top_p=f32(self.top_p),
      min_p=f32(self.min_p),
      stop_ids=i32(pad(self.stop_ids, _MAX_STOP_IDS)),
      thinking=jnp.asarray(thinking),
      thinking_budget=i32(self.thinking_budget if thinking else 0),
      end_think=(
        self.end_think.traced()
        if isinstance(self.end_think, TextMarker)
        else TokenEnd(i32(-1 if self.end_think is None else self.end_think))
      ),
      forced_ids=i32(pad(self.forced_stop_ids, _MAX_FORCED_IDS)),
      forced_length=i32(len(self.forced_stop_ids)),
      max_answer_tokens=jnp.broadcast_to(i32(_NO_LIMIT if limits is None else limits), (rows,)),
    )


def check_sampling(sampling, vocab_size: int) -> None:
  """Raises UserError unless it is a SamplingConfig whose ids are in the vocabulary."""
  check_kind("sampling", sampling, SamplingConfig, "give a SamplingConfig")
  sampling.check_vocabulary(vocab_size)


@struct.dataclass
class Sampling:
  """The traced part of a SamplingConfig for R rows: scalars, and id lists padded with -1."""

  temperature: jax.Array
  top_k: jax.Array
  top_p: jax.Array
  min_p: jax.Array
  stop_ids: jax.Array
  thinking: jax.Array
  thinking_budget: jax.Array
  end_think: TokenEnd | TextEnd
  forced_ids: jax.Array
  forced_length: jax.Array
  max_answer_tokens: jax.Array  # int32 [R]
