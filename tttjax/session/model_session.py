"""One model under everything that answers: token ids in, outputs and their cost out.

It knows no task, no run config, and no text but the tokenizer's. Shapes depend on capacity, rows
and the sizes of budgets, not on the example, so every program is compiled once per capacity.
"""

from collections.abc import Mapping, Sequence
import dataclasses

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from tttjax import flops
from tttjax.attention.caches import check_capacity, check_slots, round_capacity
from tttjax.checkpoint import Checkpoint, from_pretrained, open_checkpoint
from tttjax.checkpoint.tokenizers import encode
from tttjax.checks import as_array, check_flag, check_kind, check_number, check_tokens, shown
from tttjax.decode.beams import beam_search
from tttjax.decode.end_markers import TextMarker
from tttjax.decode.generation import Generation, generate, stream
from tttjax.decode.prefilling import prefill
from tttjax.decode.sampling_config import SamplingConfig, check_sampling
from tttjax.decode.scoring import score, score_targets
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, Params
from tttjax.models.fast_weights import has_delta, is_finite
from tttjax.rows import CLOSED, FORCED, LIMIT, OPEN, STOP
from tttjax.session import measuring
from tttjax.session.batches import padded
from tttjax.session.cost import Cost, timed
from tttjax.session.resuming import Unfinished, adapt_in_pieces
from tttjax.session.values import (
  Adaptation,
  Ending,
  Ids,
  Mechanism,
  Output,
  ReadContext,
  Room,
)
from tttjax.sharding import axis_size, to_host
from tttjax.ttt.adaptation import adapt
from tttjax.ttt.full_parameters import full_ttt
from tttjax.ttt.hyperparameters import TTTConfig, check_config

# Tokens between two looks for a stop text.
_EVERY = 16


class Session:
  """A model, its parameters and tokenizer; every call returns its cost too.

  Attributes:
    model, params: the base model, which no call changes.
    tokenizer: transformers fast tokenizer.
    stop_ids: tokens that end an answer.
    trained_length: tokens of the longest context that the model was trained on.
    unfinished: where `adapt` keeps what it has done when the program is to end; None: nowhere.
  """

  def __init__(self, model: Decoder, params: Params, tokenizer, stop_ids: Ids, trained_length: int):
    self.model = model
    self.params = params
    self.tokenizer = tokenizer
    self.stop_ids = tuple(stop_ids)
    self.trained_length = trained_length
    self.unfinished: Unfinished | None = None
    # The last prefill: strategies in turn read the same context, and each is charged for it.
    self._kept: tuple[tuple, ReadContext, Cost] | None = None

  @classmethod
  def open(
    cls,
    path: str | Checkpoint,
    mesh: jax.sharding.Mesh | None = None,
    dtype=None,
    attention: str = "auto",
  ) -> "Session":
    """Loads a checkpoint, as `from_pretrained` does, with its tokenizer and stop ids."""
    checkpoint = path if isinstance(path, Checkpoint) else open_checkpoint(path)
    model, params = from_pretrained(checkpoint, mesh, dtype, attention)
    return cls(model, params, checkpoint.tokenizer, checkpoint.stop_ids, checkpoint.trained_length)

  def beside(self) -> "Session":
    """Another session of the same model, which reads contexts of its own."""
    return Session(self.model, self.params, self.tokenizer, self.stop_ids, self.trained_length)

  def encode(self, text: str) -> tuple[int, ...]:
    """Token ids of a text that carries its own special tokens."""
    return encode(self.tokenizer, text)

  def _ids(self, name: str, value: str | Ids) -> tuple[int, ...]:
    """Token ids of a text, or of one row of them; there is at least one."""
    if isinstance(value, str):
      ids = self.encode(value)
    else:
      array = as_array(name, value)
      if array.ndim == 2 and len(array) == 1:
        array = array[0]
      if array.size and (array.ndim != 1 or not np.issubdtype(array.dtype, np.integer)):
        raise UserError(
          f"{name} must be text or one row of token ids, not {array.dtype} {list(array.shape)}"
        )
      ids = tuple(array.ravel().tolist())
      if ids:  # before a cast to int32 that some would not survive
        check_tokens(name, [ids], self.model.config.vocab_size)
    if not ids:
      raise UserError(f"{name} is empty: give at least one token")
    return ids

  def _rows(self, name: str, values: Sequence[str | Ids]) -> list[tuple[int, ...]]:
    """Token ids of each of several texts."""
    if isinstance(values, str):
      raise UserError(f"{name} is one text: give a list of them")
    try:
      rows = None if isinstance(values, (Mapping, bytes)) else list(values)
    except TypeError:  # it cannot be iterated over
      rows = None
    if rows is None:
      raise UserError(f"{name} is {shown(values)}; give a list of texts or of rows of token ids")
    if not rows:
      raise UserError(f"{name} is empty: give at least one")
    return [self._ids(f"{name}[{i}]", value) for i, value in enumerate(rows)]

  def free(self) -> None:
    """Lets go of the kept cache, after a failure."""
    self._kept = None

  def read(
    self,
    context: str | Ids,
    capacity: int | None = None,
    rope: bool = True,
    positions: np.ndarray | None = None,
    keep: bool = True,
  ) -> tuple[ReadContext, Cost]:
    """Prefills a context; that of the last call is kept, and its cost with it.

    Args:
      context: text, or token ids [T] or [1, T].
      capacity: slots of its cache; None takes the default for its length.
      rope: rotate queries and keys; off is the paper's switch of table 3.
      positions: int [T], increasing; None is 0, 1, 2, ...
      keep: this one; False reads it beside the one that is kept.

    Raises:
      UserError: what `prefill` refuses, text that cannot be encoded.
    """
    rope = check_flag("rope", rope)
    ids = self._ids("the context", context)
    shards = axis_size(self.model.mesh, "context")
    if capacity is None:
      capacity = round_capacity(len(ids), shards)
    capacity = check_capacity(capacity, len(ids), shards)
    if positions is not None:
      positions = as_array("positions", positions)
      if positions.shape != (len(ids),):
        raise UserError(
          f"positions must have the shape ({len(ids)},) of the context, not {positions.shape}"
        )
      if not np.issubdtype(positions.dtype, np.integer):
        raise UserError(f"positions must be integers, not {positions.dtype}")
    place = None if positions is None else tuple(np.asarray(positions).tolist())
    wanted = ids, capacity, rope, place
    if self._kept and self._kept[0] == wanted:
      return self._kept[1:]
    if keep:
      self._kept = None  # frees the old cache before the new one is built
    model = self.model if rope else self.model.clone(rope=False)
    # Padding to the capacity keeps one shape; the length is an argument.
    pad = ((0, 0), (0, capacity - len(ids)))
    lengths = np.array([len(ids)], np.int32)
    if positions is not None:
      positions = np.pad(positions[None], pad, mode="edge")
    tokens = np.array([ids], np.int32)
    with timed() as clock:
      cache, _ = prefill(model, self.params, np.pad(tokens, pad), lengths, capacity, positions)
      jax.block_until_ready(cache)
    cost = clock.phase("prefill", flops.prefill(model.config, len(ids)))
    read = ReadContext(model, cache, tokens)
    if keep:
      self._kept = wanted, read, cost
    return read, cost

  def adapt(
    self,
    context: ReadContext,
    ttt: TTTConfig,
    key: jax.Array,
    starts: np.ndarray | None = None,
  ) -> tuple[Params | None, Adaptation, Cost]:
    """Test-time training on a context (paper, Algorithm 1).

    Args:
      starts: int [N], where the spans start; None draws them uniformly.

    Returns:
      (fast weights, how it went, cost); None, the base weights, where a step was not finite.

    Raises:
      UserError: what the function `adapt` refuses.
    """
    _check_context(context)
    check_config(ttt)
    arguments = context.model, self.params, context.cache, context.tokens, key, ttt, starts
    with timed() as clock:
      if self.unfinished is not None and ttt.steps:
        fast, history = adapt_in_pieces(*arguments, self.unfinished)
      else:
        fast, _, history = adapt(*arguments)
      jax.block_until_ready(fast)
    history = to_host(history)
    places = tuple(int(start) for start in history.start)
    work = flops.adapt(
      self.model.config, context.num_tokens, ttt.span, ttt.steps, places, ttt.span_kv
    )
    fallback = _not_finite(history, fast)
    adaptation = Adaptation(tuple(map(float, history.loss)), places, fallback)
    return None if fallback else fast, adaptation, clock.phase("adapt", work)

  def train_all(
    self, context: str | Ids, ttt: TTTConfig, capacity: int | None = None
  ) -> tuple["Session", Adaptation, Cost]:
    """A session whose every weight was trained on the context; this one if that failed.

    Args:
      capacity: slots that the context is padded to at least, so that shorter ones compile nothing.

    Raises:
      UserError: what `full_ttt` refuses, a capacity that is no number of slots.
    """
    check_config(ttt)
    ids = self._ids("the context", context)
    room = Room() if capacity is None else Room(tokens=check_slots(capacity))
    tokens, lengths = padded([ids], room)
    with timed() as clock:
      # The span is static and has no part in this.
      params, history = full_ttt(
        self.model, self.params, tokens, lengths, dataclasses.replace(ttt, span=1)
      )
      jax.block_until_ready(params)
    history = to_host(history)
    work = ttt.steps * flops.full_ttt_step(self.model.config, len(ids))
    fallback = _not_finite(history, params)
    adaptation = Adaptation(tuple(map(float, history.loss)), (0,) * ttt.steps, fallback)
    # float32 weights: rounded to the base model's bfloat16 most of the change would be lost.
    model = self.model.clone(dtype=jnp.float32)
    trained = Session(model, params, self.tokenizer, self.stop_ids, self.trained_length)
    return self if fallback else trained, adaptation, clock.phase("adapt", work)

  def generate(
    self,
    context: ReadContext,
    fast: Params | None,
    prompts: Sequence[str | Ids],
    sampling: SamplingConfig,
    key: jax.Array,
    samples: int = 1,
    beams: int = 0,
    question_before: bool = False,
    room: Room | None = None,
    stop_texts: Sequence[str] = (),
  ) -> tuple[tuple[tuple[Output, ...], ...], Cost]:
    """Answers every prompt in one batch that shares the context's cache.

    It thinks first where `sampling` has a thinking budget.

    Args:
      fast: fast weights, or None.
      prompts: texts or token ids that follow the context, each by itself.
      sampling: where it has a limit of each row's answer, one of each prompt.
      key: row i of the batch draws from its own stream.
      samples: outputs of each prompt.
      beams: above 0, the likeliest output that a search with so many beams finds, instead of
        sampled ones.
      question_before: encode the prompts with the base weights, but for their last token.
      room: what the batch is padded to at least; None is no more than the prompts need.
      stop_texts: once every answer holds one of them, which are left in it, no more is written;
        beams take no notice.

    Returns:
      (`samples` outputs of each prompt, cost).

    Raises:
      FloatingPointError: the log-probabilities of an output are not finite.
      UserError: what the functions `generate` and `beam_search` refuse.
    """
    _check_context(context)
    check_sampling(sampling, self.model.config.vocab_size)
    prompts = self._rows("prompts", prompts)
    samples = check_number("samples", samples, 1, whole=True, static=True)
    question_before = check_flag("question_before", question_before)
    beams = check_number("num_beams", beams, -np.inf, whole=True, static=True)
    tokens, lengths = padded(prompts, room)
    sampling = sampling.of_rows(1 if beams else samples, len(tokens) - len(prompts))
    arguments = context.model, self.params, fast, context.cache
    with timed() as clock:
      if beams != 0:  # below it too, which it refuses
        out = beam_search(*arguments, tokens, sampling, beams, prompt_lengths=lengths)
      else:
        rows = np.repeat(tokens, samples, axis=0)
        given = {
          "prompt_lengths": np.repeat(lengths, samples),
          "question_before": question_before,
        }
        if stop_texts:
          for out in stream(*arguments, rows, key, sampling, every=_EVERY, **given):
            if self._stopped(out, len(prompts) * samples, sampling, stop_texts):
              break
        else:
          out = generate(*arguments, rows, key, sampling, **given)
      out = to_host(out)
    per_prompt = 1 if beams else samples
    outputs = tuple(
      tuple(self._output(out, i * per_prompt + j, sampling, beams) for j in range(per_prompt))
      for i in range(len(prompts))
    )
    delta = has_delta(fast)

    def work(prompt: Ids, own: Sequence[Output]) -> int:
      shape = self.model.config, context.num_tokens, len(prompt)
      if beams:
        return flops.beam(*shape, own[0].generated // beams, beams, delta)
      plain = len(prompt) - 1 if question_before else 0
      return sum(flops.decode(*shape, len(o.ids), delta, plain_rows=plain) for o in own)

    return outputs, clock.phase("generate", own=[*map(work, prompts, outputs)])

  def _stopped(self, out: Generation, rows: int, sampling: SamplingConfig, texts) -> bool:
    """Whether each of the first rows has ended, or has one of the texts in its answer."""
    ended = {*sampling.stop_ids, -1}  # -1: the logits were not finite
    out = to_host(out)
    limits = sampling.max_answer_tokens or sampling.max_new_tokens
    limits = np.broadcast_to(limits, out.lengths.shape)
    for row in range(rows):
      ids = out.tokens[row, : out.lengths[row]]
      answer = ids[out.thinking_lengths[row] :]
      if ids[-1] in ended or len(answer) == limits[row]:
        continue
      answer = self.tokenizer.decode(answer, skip_special_tokens=True)
      if not any(text in answer for text in texts):
        return False
    return True

  def _output(self, out: Generation, row: int, sampling: SamplingConfig, beams: int = 0) -> Output:
    length, thought = int(out.lengths[row]), int(out.thinking_lengths[row])
    if not np.isfinite(out.logprobs[row, :length]).all():
      raise FloatingPointError("the log-probabilities of the output are not finite")
    ids = tuple(map(int, out.tokens[row, :length]))
    decode = lambda some: self.tokenizer.decode(some, skip_special_tokens=True)
    answer = decode(ids[thought:])
    if thought and isinstance(sampling.end_think, TextMarker):
      # What the closing token holds beyond the marker; everything, where a thought just stopped.
      answer = decode(ids[:thought]).rpartition(sampling.end_think.text)[2] + answer
    ended = None
    if sampling.thinking_budget is not None:
      ended = _thought_ending(ids[:thought], length > thought, sampling)
    return Output(
      ids=ids,
      text=decode(ids),
      answer=answer.strip(),
      thinking_tokens=thought,
      ending=Ending(STOP if ids[-1] in sampling.stop_ids else LIMIT, ended),
      generated=int(out.steps[row]) * beams if beams else length,
    )

  def score(
    self, context: ReadContext, fast: Params | None, continuations: Sequence[str | Ids]
  ) -> tuple[tuple[np.ndarray, ...], Cost]:
    """Log-probabilities, float32 [n], of the tokens of each text after the context.

    Those of a text's first token are 0: it belongs to the context's last token, which was encoded
    before adaptation.
    """
    _check_context(context)
    rows = self._rows("continuations", continuations)
    tokens, lengths = padded(rows)
    with timed() as clock:
      scores = to_host(score(context.model, self.params, fast, context.cache, tokens, lengths))
    delta = has_delta(fast)
    work = [flops.decode(self.model.config, context.num_tokens, len(row), 0, delta) for row in rows]
    return tuple(s[: len(row)] for s, row in zip(scores, rows)), clock.phase("score", own=work)

  def score_targets(
    self,
    context: ReadContext,
    fast: Params | None,
    rows: Sequence[Ids],
    targets: Sequence[Ids],
    room: Room | None = None,
  ) -> tuple[tuple[tuple[np.ndarray, np.ndarray], ...], Cost]:
    """Of each row after the context: how likely each of its targets is after the tokens up to it.

    Args:
      targets: as many as tokens, of each row.
      room: what the batch is padded to at least.

    Returns:
      (of each row: log-probabilities, float32 [n], and whether no token is likelier, bool [n];
      cost).
    """
    _check_context(context)
    rows = self._rows("rows", rows)
    tokens, lengths = padded(rows, room)
    wanted, _ = padded(self._rows("targets", targets), room)
    with timed() as clock:
      arguments = context.model, self.params, fast, context.cache, tokens, wanted, lengths
      scores, likeliest = to_host(score_targets(*arguments))
    delta = has_delta(fast)
    work = [flops.decode(self.model.config, context.num_tokens, len(row), 0, delta) for row in rows]
    scored = ((s[: len(row)], g[: len(row)]) for s, g, row in zip(scores, likeliest, rows))
    return tuple(scored), clock.phase("score", own=work)

  def measure(
    self,
    context: ReadContext,
    fast: Params | None,
    prompts: Sequence[Ids],
    written: Sequence[Ids],
    evidence: Sequence[measuring.Spans],
    during: str = "reference",
    adaptation: Adaptation | None = None,
    span: int = 0,
    room: Room | None = None,
  ) -> tuple[Mechanism | None, ...]:
    """What the attention does to each question's evidence while `written` follows its prompt.

    Args:
      evidence: token spans [start, end) of the context, of each question.
      during: 'reference' or 'output', what `written` is.
      adaptation, span: measure the loss of spans of that length that it did not train on, too.

    Returns:
      One per question; None where it could not be measured.
    """
    losses = None, None
    try:
      if adaptation is not None:
        losses = measuring.held_out_losses(self.params, context, fast, adaptation, span)
      return measuring.attention_on_evidence(
        self.params,
        context,
        fast,
        prompts,
        written,
        evidence,
        during,
        room,
        losses,
      )
    except jax.errors.JaxRuntimeError as error:  # out of memory: the answers are kept all the same
      logging.warning("not measured: %s", str(error).split("\n")[0])
      return (None,) * len(prompts)


def _check_context(context) -> None:
  """Raises UserError unless it is a context that was read."""
  remedy = "give the first of the two values that Session.read returns"
  check_kind("context", context, ReadContext, remedy)


def _thought_ending(thought: Ids, answered: bool, sampling: SamplingConfig) -> str:
  """What became of a thought, rows.CLOSED, FORCED or OPEN; `answered`: tokens follow it."""
  if len(thought) > sampling.thinking_budget:  # with the inserted tokens
    return FORCED
  end = sampling.end_think
  ends = end.count(thought) if isinstance(end, TextMarker) else thought[-1:] == (end,)
  return CLOSED if answered or ends else OPEN


def _not_finite(history, weights: Params) -> str | None:
  """Which step failed, or that the weights did, in words; None where all is finite."""
  answered = "answered with the base weights"
  bad = np.flatnonzero(~history.ok)
  if bad.size:
    return (
      f"step {bad[0] + 1} of {history.ok.size} was not finite (loss {history.loss[bad[0]]}):"
      f" {answered}"
    )
  if not all(map(is_finite, jax.tree.leaves(weights))):
    return f"the weights after step {history.ok.size} were not finite: {answered}"
  return None
