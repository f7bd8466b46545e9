"""Decoding: one jitted loop, with the thinking budget inside it."""

from collections.abc import Iterator

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tttjax.attention.caches import PrefixCache, SuffixCache
from tttjax.checks import check_flag, check_key, check_number
from tttjax.decode import thinking_budget
from tttjax.decode.arguments import check_model
from tttjax.decode.sampling import choose, log_probability
from tttjax.decode.sampling_config import Sampling, SamplingConfig, check_sampling
from tttjax.decode.suffix import align_right, check_suffix, encode, new_suffix
from tttjax.models.decoder import Decoder, Params, variables
from tttjax.models.fast_weights import check_fast
from tttjax.models.layers_apart import apart_for
from tttjax.together import program
from tttjax.vmapped_bounds import anywhere


@struct.dataclass
class Generation:
  """What was generated for each of R rows.

  Attributes:
    tokens: int32 [R, max_new_tokens], -1 beyond the row's length.
    lengths: int32 [R], tokens generated, thinking and stop token included. A row whose logits
      become NaN (fast weights that are not finite, under tracing) ends there: its last token is -1,
      of log-probability NaN.
    logprobs: float32 [R, max_new_tokens], the model's log-probability of each token
      (temperature 1, no filter; of inserted tokens too), 0 beyond the length.
    thinking_lengths: int32 [R], how many of them are thinking: up to and with the token that
      closed it, inserted ones included; 0 without a thinking budget.
  """

  tokens: jax.Array
  lengths: jax.Array
  logprobs: jax.Array
  thinking_lengths: jax.Array


@struct.dataclass
class _State:
  step: jax.Array  # int32, tokens emitted so far
  last: jax.Array  # int32 [R], the newest token
  suffix: SuffixCache
  progress: thinking_budget.Progress  # [R]
  done: jax.Array  # bool [R]
  out: Generation


def generate(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  prompt: jax.Array,
  key: jax.Array,
  sampling: SamplingConfig,
  prompt_lengths: jax.Array | None = None,
  question_before: bool = False,
) -> Generation:
  """Encodes the prompt after the frozen context, with the current fast weights, and decodes.

  Args:
    fast: fast weights, or None for plain inference.
    cache: contexts, batch B; read by all n rows of each, never written.
    prompt: int [R, S], right-padded, R = n*B; rows b*n .. (b+1)*n-1 follow context b. At least
      one token each: to answer straight after the context give cache.rewind(1) and its last token.
    key: PRNG key; row r of step i draws from fold_in(fold_in(key, r), i).
    sampling: max_new_tokens is static; everything else is traced.
    prompt_lengths: int [R]; None means S.
    question_before: static; encode all of the prompt but its last token without the fast weights,
      as if it had been read before the adaptation.

  Raises:
    UserError: an empty prompt, ids outside the vocabulary, positions beyond the model's range, fast
      weights that are not this model's or not finite, an argument of another kind.
  """
  question_before = check_flag("question_before", question_before)
  prompt, lengths = _check(model, params, fast, cache, prompt, key, sampling, prompt_lengths)
  return _generate(
    model,
    sampling.max_new_tokens,
    question_before,
    *apart_for(sampling.max_new_tokens, params, fast),
    cache,
    prompt,
    lengths,
    key,
    sampling.traced(len(prompt)),
  )


def stream(
  model: Decoder,
  params: Params,
  fast: Params | None,
  cache: PrefixCache,
  prompt: jax.Array,
  key: jax.Array,
  sampling: SamplingConfig,
  prompt_lengths: jax.Array | None = None,
  every: int = 8,
  question_before: bool = False,
) -> Iterator[Generation]:
  """As `generate`, yielding everything so far after each `every` tokens; the last is the whole.

  Raises:
    UserError: as `generate`; `every` is no whole number of at least 1.
  """
  every = check_number("every", every, 1, whole=True, static=True)
  before = check_flag("question_before", question_before)
  prompt, lengths = _check(model, params, fast, cache, prompt, key, sampling, prompt_lengths)
  size, traced = sampling.max_new_tokens, sampling.traced(len(prompt))
  params, fast = apart_for(size, params, fast)
  state = _start(model, size, before, params, fast, cache, prompt, lengths, key, traced)
  until = 1
  while True:
    yield state.out
    if until >= size or bool(np.all(state.done)):
      return
    until = min(until + every, size)
    state = _advance(model, params, fast, cache, state, key, traced, jnp.asarray(until))


def _check(model, params, fast, cache, prompt, key, sampling, prompt_lengths):
  """The prompt, padded, and its lengths; raises what `generate` does."""
  check_model(model, params)
  check_fast(model, fast)
  check_sampling(sampling, model.config.vocab_size)
  size = sampling.max_new_tokens
  checked = check_suffix(model, cache, prompt, prompt_lengths, size, "the prompt")
  check_key("key", key)
  return checked


@program(static=3)
def _generate(model, size, before, params, fast, cache, prompt, lengths, key, sampling):
  state = _start(model, size, before, params, fast, cache, prompt, lengths, key, sampling)
  return _advance(model, params, fast, cache, state, key, sampling, size).out


@program(static=3)
def _start(model, size, before, params, fast, cache, prompt, lengths, key, sampling):
  """Encodes the prompt and emits the first token."""
  rows, width = prompt.shape
  suffix = new_suffix(model, cache, lengths, width, size)
  aligned = align_right(prompt, lengths)
  if before:
    _, suffix, _ = encode(model, params, None, cache, suffix, aligned[:, :-1])
    aligned = aligned[:, -1:]
  hidden, suffix, _ = encode(model, params, fast, cache, suffix, aligned)
  zeros = jnp.zeros((rows,), jnp.int32)
  state = _State(
    step=jnp.zeros((), jnp.int32),
    last=zeros,
    suffix=suffix,
    progress=thinking_budget.start((rows,), sampling),
    done=jnp.zeros((rows,), bool),
    out=Generation(
      tokens=jnp.full((rows, size), -1, jnp.int32),
      lengths=zeros,
      logprobs=jnp.zeros((rows, size), jnp.float32),
      thinking_lengths=zeros,
    ),
  )
  return _emit(model, params, hidden[:, -1], state, key, sampling)


@program(static=1)
def _advance(model, params, fast, cache, state, key, sampling, until):
  """Decodes until `until` tokens are emitted or every row is done."""

  def body(state):
    hidden, suffix, _ = encode(model, params, fast, cache, state.suffix, state.last[:, None])
    return _emit(model, params, hidden[:, 0], state.replace(suffix=suffix), key, sampling)

  unfinished = lambda state: (state.step < until) & anywhere(~state.done.all())
  return lax.while_loop(unfinished, body, state)


def _emit(model, params, hidden, state: _State, key, sampling: Sampling) -> _State:
  """Chooses the next token of every row, or inserts it, and does the bookkeeping."""
  logits = model.apply(variables(params, None), hidden, method="logits")
  rows = jnp.arange(hidden.shape[0])
  keys = jax.vmap(lambda r: jax.random.fold_in(jax.random.fold_in(key, r), state.step))(rows)
  token = choose(logits, keys, sampling)

  forced, insert = thinking_budget.insertion(state.progress, sampling)
  token = jnp.where(forced, insert, token)
  logprob = log_probability(logits, token)
  broken = jnp.isnan(logprob)
  token = jnp.where(broken, -1, token)

  live = ~state.done
  progress = thinking_budget.advance(state.progress, token, sampling)
  progress = jax.tree.map(lambda new, old: jnp.where(live, new, old), progress, state.progress)
  at = state.step
  out = Generation(
    tokens=state.out.tokens.at[:, at].set(jnp.where(live, token, -1)),
    lengths=state.out.lengths + live,
    logprobs=state.out.logprobs.at[:, at].set(jnp.where(live, logprob, 0.0)),
    thinking_lengths=progress.thought,
  )
  done = state.done | broken | thinking_budget.ends(state.progress, token, sampling)
  return state.replace(step=at + 1, last=token, progress=progress, done=done, out=out)
