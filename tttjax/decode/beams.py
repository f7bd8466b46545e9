"""Beam search after the frozen context: one jitted loop, every beam with its thinking budget."""

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tttjax.attention.caches import PrefixCache, SuffixCache
from tttjax.checks import check_number, is_concrete
from tttjax.decode import thinking_budget
from tttjax.decode.arguments import check_model
from tttjax.decode.generation import Generation
from tttjax.decode.sampling_config import Sampling, SamplingConfig, check_sampling
from tttjax.decode.suffix import align_right, check_suffix, encode, new_suffix
from tttjax.errors import UserError
from tttjax.models.decoder import Decoder, Params, variables
from tttjax.models.fast_weights import check_fast
from tttjax.models.layers_apart import apart_for
from tttjax.sharding import constrain
from tttjax.together import program
from tttjax.vmapped_bounds import anywhere


@struct.dataclass
class BeamGeneration(Generation):
  """The best hypothesis of each of R rows.

  Attributes:
    scores: float32 [R]: the sum of the log-probabilities of the tokens that the beam chose, over
      their number to the power length_penalty. Tokens that the thinking budget inserted are no
      choice of the beam's and count in neither; `logprobs` holds the model's value for them too.
    steps: int32 [R], tokens by which each of the row's beams was extended until its search ended;
      at least the hypothesis's length. This is what the search costs.
  """

  scores: jax.Array
  steps: jax.Array


@struct.dataclass
class _Beams:
  """Hypotheses still running, likeliest first: n per row, of the same length."""

  totals: jax.Array  # float32 [R, n], log-probability of the chosen tokens; -inf is no hypothesis
  progress: thinking_budget.Progress  # [R, n]
  tokens: jax.Array  # int32 [R, n, size]
  logprobs: jax.Array  # float32 [R, n, size]


@struct.dataclass
class _State:
  step: jax.Array  # int32, tokens emitted so far
  suffix: SuffixCache  # R*n rows, not yet in the order of `beams`
  parents: jax.Array  # int32 [R, n], the suffix row among the row's n that each beam continues
  beams: _Beams
  finished: Generation  # [R, n, ...], the best hypotheses that ended, best first
  scores: jax.Array  # float32 [R, n], theirs; -inf is none yet
  open: jax.Array  # bool [R], a running beam may still improve what is finished
  steps: jax.Array  # int32 [R], steps made while open


def beam_search(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  prompt: jax.Array,
  sampling: SamplingConfig,
  num_beams: int,
  prompt_lengths: jax.Array | None = None,
  length_penalty: float = 1.0,
) -> BeamGeneration:
  """The best continuation of every prompt that a search with `num_beams` beams finds.

  The search is that of transformers' `generate(num_beams=n, do_sample=False)` with its default
  early_stopping=False: of the n likeliest extensions those that end become finished hypotheses, of
  which the n best by score are kept; the n likeliest that do not end run on. A row's search ends
  when n hypotheses are finished and the best running beam, scored at its present length, is no
  better than the worst of them, or at max_new_tokens.

  The prompt is encoded once per row. All beams of all rows share the frozen context; the suffix is
  reordered by the beams' parents at each step.

  Args:
    fast: fast weights, or None for plain inference.
    cache: contexts, batch B.
    prompt: int [R, S], right-padded, at least one token each; R a multiple of B as in `generate`.
    sampling: stop ids and the thinking budget, which each beam has for itself: one that has used
      it up has the inserted tokens as its only extension. Static: max_new_tokens.
    num_beams: static.
    prompt_lengths: int [R]; None means S.
    length_penalty: traced; above 0 favours long hypotheses, 0 compares plain sums.

  Raises:
    UserError: as `generate`; a temperature, num_beams below 1 or above the vocabulary.
  """
  check_model(model, params)
  check_sampling(sampling, model.config.vocab_size)
  # n beams start as the n likeliest first tokens.
  most = model.config.vocab_size
  num_beams = check_number("num_beams", num_beams, 1, most, whole=True, static=True)
  if is_concrete(sampling.temperature) and sampling.temperature != 0:
    raise UserError(
      f"SamplingConfig.temperature is {sampling.temperature} but beam search does not sample:"
      " set it to 0"
    )
  check_number("length_penalty", length_penalty, -np.inf)
  check_fast(model, fast)
  size = sampling.max_new_tokens
  prompt, lengths = check_suffix(model, cache, prompt, prompt_lengths, size, "the prompt")
  penalty = jnp.asarray(length_penalty, jnp.float32)
  return _beam_search(
    model,
    size,
    num_beams,
    *apart_for(size, params, fast),
    cache,
    prompt,
    lengths,
    penalty,
    sampling.traced(len(prompt)),
  )


@program(static=3)
def _beam_search(model, size, num_beams, params, fast, cache, prompt, lengths, penalty, sampling):
  rows, width = prompt.shape
  suffix = new_suffix(model, cache, lengths, width, size)
  hidden, suffix, _ = encode(model, params, fast, cache, suffix, align_right(prompt, lengths))

  def log_probabilities(hidden):
    """[R, n, V] of the next token of hidden states [R, 1 or n, D]."""
    logits = model.apply(variables(params, None), hidden, method="logits")
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    return jnp.broadcast_to(logprobs, (rows, num_beams, logprobs.shape[-1]))

  def body(state):
    suffix = _reorder(model, state.suffix, state.parents)
    last = state.beams.tokens[:, :, state.step - 1].reshape(-1, 1)
    hidden, suffix, _ = encode(model, params, fast, cache, suffix, last)
    logprobs = log_probabilities(hidden.reshape(rows, num_beams, -1))
    return _extend(logprobs, state.replace(suffix=suffix), penalty, sampling)

  # One hypothesis, the empty one: the first step's n beams all come from it.
  state = _start(suffix, rows, num_beams, size, sampling)
  state = _extend(log_probabilities(hidden[:, -1:]), state, penalty, sampling)
  state = lax.while_loop(lambda state: anywhere(state.open.any()), body, state)
  best = jax.tree.map(lambda x: x[:, 0], state.finished)
  scores = state.scores[:, 0]
  # A search whose logits are NaN finishes no hypothesis: one token -1, as in `generate`.
  none = scores == -jnp.inf
  return BeamGeneration(
    tokens=best.tokens,
    lengths=jnp.where(none, 1, best.lengths),
    logprobs=best.logprobs.at[:, 0].set(jnp.where(none, jnp.nan, best.logprobs[:, 0])),
    thinking_lengths=best.thinking_lengths,
    scores=jnp.where(none, jnp.nan, scores),
    steps=state.steps,
  )


def _start(suffix: SuffixCache, rows: int, num_beams: int, size: int, sampling: Sampling) -> _State:
  """The prompt's suffix [R, ...] once for each beam, and nothing emitted."""
  repeat = lambda x, axis: jnp.repeat(x, num_beams, axis)
  shape = (rows, num_beams)
  zeros = jnp.zeros(shape, jnp.int32)
  tokens, logprobs = jnp.full((*shape, size), -1, jnp.int32), jnp.zeros((*shape, size), jnp.float32)
  none = jnp.full(shape, -jnp.inf, jnp.float32)
  return _State(
    step=jnp.zeros((), jnp.int32),
    suffix=suffix.replace(
      keys=repeat(suffix.keys, 1),
      values=repeat(suffix.values, 1),
      first=repeat(suffix.first, 0),
      base=repeat(suffix.base, 0),
    ),
    parents=zeros,
    beams=_Beams(none.at[:, 0].set(0.0), thinking_budget.start(shape, sampling), tokens, logprobs),
    finished=Generation(tokens, zeros, logprobs, zeros),
    scores=none,
    open=jnp.ones((rows,), bool),
    steps=jnp.zeros((rows,), jnp.int32),
  )


def _reorder(model: Decoder, suffix: SuffixCache, parents: jax.Array) -> SuffixCache:
  """The suffix whose row r*n + j is the old row r*n + parents[r, j]; prompts do not differ."""

  def gather(slots):  # [L, R*n, K, S, d]
    split = slots.reshape(slots.shape[0], *parents.shape, *slots.shape[2:])
    taken = jax.vmap(lambda row, at: row[:, at], (1, 0), 1)(split, parents)
    return constrain(taken.reshape(slots.shape), model.mesh, None, "batch", "kv_heads", None, None)

  return suffix.replace(keys=gather(suffix.keys), values=gather(suffix.values))


def _take(tree, index: jax.Array):
  """Hypotheses index [R, n] of a tree of arrays [R, any, ...]."""
  wide = lambda x: index.reshape(*index.shape, *(1,) * (x.ndim - 2))
  return jax.tree.map(lambda x: jnp.take_along_axis(x, wide(x), axis=1), tree)


def _score(beams: _Beams, length: jax.Array, penalty: jax.Array, sampling: Sampling) -> jax.Array:
  """Scores float32 [R, n] of hypotheses of `length` tokens."""
  inserted = jnp.maximum(beams.progress.thought - sampling.thinking_budget, 0)
  chosen = jnp.maximum(length - inserted, 1).astype(jnp.float32)
  return beams.totals / chosen**penalty


def _extend(logprobs, state: _State, penalty: jax.Array, sampling: Sampling) -> _State:
  """One step of the search, given log-probabilities [R, n, V] of each beam's next token."""
  rows, num_beams, vocab = logprobs.shape
  beams, length = state.beams, state.step + 1
  ids = jnp.arange(vocab)
  forced, insert = thinking_budget.insertion(beams.progress, sampling)
  only = jnp.where(ids == insert[..., None], 0.0, -jnp.inf)
  totals = beams.totals[..., None] + jnp.where(forced[..., None], only, logprobs)
  of_each_id = jax.tree.map(lambda x: x[..., None], beams.progress)
  ended = thinking_budget.ends(of_each_id, ids, sampling) | (length == beams.tokens.shape[-1])

  def likeliest(totals):
    """The n extensions of each row with the largest totals [R, n, V]: beams, parents, ended."""
    totals, index = lax.top_k(totals.reshape(rows, -1), num_beams)
    parents, token = index // vocab, index % vocab
    value, end = _take((logprobs.reshape(rows, -1), ended.reshape(rows, -1)), index)
    old = _take(beams, parents)
    new = _Beams(
      totals=totals,
      progress=thinking_budget.advance(old.progress, token, sampling),
      tokens=old.tokens.at[:, :, state.step].set(token),
      logprobs=old.logprobs.at[:, :, state.step].set(value),
    )
    return new, parents, end

  # Searching twice makes it exact however many stop ids there are: transformers
  # takes (1 + stop ids) * n extensions, which a traced number of ids cannot size.
  candidates, _, end = likeliest(totals)
  running, parents, _ = likeliest(jnp.where(ended, -jnp.inf, totals))

  scores = _score(candidates, length, penalty, sampling)
  scores = jnp.where(end & state.open[:, None], scores, -jnp.inf)
  new = Generation(
    tokens=candidates.tokens,
    lengths=jnp.full_like(parents, length),
    logprobs=candidates.logprobs,
    thinking_lengths=candidates.progress.thought,
  )
  join = lambda old, new: jnp.concatenate([old, new], axis=1)
  scores, best = lax.top_k(join(state.scores, scores), num_beams)
  finished = _take(jax.tree.map(join, state.finished, new), best)

  possible = _score(running, length, penalty, sampling).max(axis=1)
  return state.replace(
    step=length,
    parents=parents,
    beams=running,
    finished=finished,
    scores=scores,
    open=state.open & (possible > scores.min(axis=1)),
    steps=state.steps + state.open,
  )
