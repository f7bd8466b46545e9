"""Users' mistakes: one clear UserError each, raised before anything is compiled."""

import dataclasses
import inspect

import jax
import numpy as np
import pytest

from tests.reference import random_tokens
import tttjax as tt

_T = 200
_KEY = None  # no mistake gets as far as drawing a number


@pytest.fixture(scope="module")
def case(small):
  """(model, params, tokens, cache)."""
  _, model, params = small
  tokens = random_tokens(np.random.default_rng(61), 1, _T)
  return model, params, tokens, tt.prefill(model, params, tokens)[0]


@pytest.fixture
def rejects(compilations):
  """A function: calls `function`, which must raise UserError with `words`, compiling nothing."""

  def check(words, function):
    before = compilations()
    with pytest.raises(tt.UserError, match=words) as caught:
      function()
    assert "\n" not in str(caught.value)
    assert compilations() == before

  return check


def _ids(*shape, value=1):
  return np.full(shape, value, np.int32)


@pytest.mark.parametrize(
  "tokens, words",
  [
    (_ids(1, 0), "empty"),
    (_ids(0, 5), "empty"),
    (_ids(5), "shape"),
    (_ids(1, 5, value=97), "token id 97, outside the model's vocabulary of 97"),
    (_ids(1, 5, value=-1), "token id -1, outside"),
    (np.ones((1, 5)), "integer"),
  ],
  ids=["empty", "no rows", "one axis", "id too large", "id negative", "not integers"],
)
class TestTokens:
  """Every function that takes tokens checks them."""

  def test_prefill(self, case, rejects, tokens, words):
    model, params, _, _ = case
    rejects(words, lambda: tt.prefill(model, params, tokens))

  def test_adapt(self, case, rejects, tokens, words):
    model, params, _, cache = case
    rejects(words, lambda: tt.adapt(model, params, cache, tokens, _KEY, tt.TTTConfig(span=4)))

  def test_generate(self, case, rejects, tokens, words):
    model, params, _, cache = case
    sampling = tt.SamplingConfig()
    rejects(words, lambda: tt.generate(model, params, None, cache, tokens, _KEY, sampling))

  def test_stream(self, case, rejects, tokens, words):
    model, params, _, cache = case
    sampling = tt.SamplingConfig()
    rejects(words, lambda: next(tt.stream(model, params, None, cache, tokens, _KEY, sampling)))

  def test_score(self, case, rejects, tokens, words):
    model, params, _, cache = case
    rejects(words, lambda: tt.score(model, params, None, cache, tokens))

  def test_attention_mass(self, case, rejects, tokens, words):
    model, params, _, cache = case
    marks = np.zeros((1, _T), bool)
    rejects(
      words,
      lambda: tt.mechanism.attention_mass(model, params, None, cache, tokens, None, marks),
    )


@pytest.mark.parametrize("lengths", [[0], [6], [1, 2]], ids=["0", "beyond the width", "two"])
def test_lengths_that_do_not_fit_the_tokens(case, rejects, lengths):
  model, params, _, cache = case
  lengths = np.asarray(lengths)
  rejects("lengths of the context", lambda: tt.prefill(model, params, _ids(1, 5), lengths))
  rejects("lengths of tokens", lambda: tt.score(model, params, None, cache, _ids(1, 5), lengths))
  sampling = tt.SamplingConfig()
  rejects(
    "lengths of the prompt",
    lambda: tt.generate(model, params, None, cache, _ids(1, 5), _KEY, sampling, lengths),
  )


def test_capacity_exceeded(case, rejects):
  model, params, tokens, _ = case
  rejects(
    "capacity 128 is exceeded: the context has 200 tokens; give a capacity of at least 256",
    lambda: tt.prefill(model, params, tokens, capacity=128),
  )


def test_capacity_not_in_whole_blocks(case, rejects):
  model, params, tokens, _ = case
  rejects(
    "capacity 250 is not a multiple of 128.*use 256",
    lambda: tt.prefill(model, params, tokens, capacity=250),
  )


def test_context_beyond_max_position_embeddings(case, rejects):
  model, params, tokens, _ = case
  short = model.clone(config=dataclasses.replace(model.config, max_position_embeddings=199))
  rejects("position 199 but max_position_embeddings", lambda: tt.prefill(short, params, tokens))


def test_positions_beyond_max_position_embeddings(case, rejects):
  model, params, tokens, _ = case
  positions = np.arange(_T)[None] + 4000
  rejects("position 4199", lambda: tt.prefill(model, params, tokens, positions=positions))


def test_positions_of_another_shape(case, rejects):
  model, params, tokens, _ = case
  rejects(
    "positions must have the shape",
    lambda: tt.prefill(model, params, tokens, positions=np.arange(_T)),
  )


def test_generation_beyond_max_position_embeddings(case, rejects):
  model, params, _, cache = case
  sampling = tt.SamplingConfig(max_new_tokens=4096)
  rejects(
    "reach position 4301 but max_position_embeddings",
    lambda: tt.generate(model, params, None, cache, _ids(1, 5), _KEY, sampling),
  )


def test_prompt_rows_that_do_not_divide_over_the_cache(case, rejects):
  model, params, _, cache = case
  two = jax.tree.map(lambda x: np.repeat(x, 2, axis=1 if x.ndim == 5 else 0), cache)
  rejects("3 rows but the cache 2", lambda: tt.score(model, params, None, two, _ids(3, 5)))


def _step(case, start, span=16):
  model, params, tokens, cache = case
  cfg = tt.TTTConfig(span=span)
  return lambda: tt.ttt_step(model, params, None, None, cache, tokens, start, cfg)


def test_span_longer_than_the_context(case, rejects):
  model, params, tokens, cache = case
  for span in (_T, 300):
    cfg = tt.TTTConfig(span=span)
    rejects(f"span.* {span}", _step(case, 0, span))
    rejects(f"span.* {span}", lambda: tt.adapt(model, params, cache, tokens, _KEY, cfg))


@pytest.mark.parametrize("start", [-1, _T - 16, 5000])
def test_concrete_start_outside_the_context(case, rejects, start):
  model, params, tokens, cache = case
  cfg = tt.TTTConfig(span=16)
  words = f"span start {start} is outside 0..183"
  rejects(words, _step(case, start))
  starts = np.asarray([3, start])
  rejects(words, lambda: tt.adapt(model, params, cache, tokens, _KEY, cfg, starts=starts))


@pytest.mark.parametrize(
  "first, last, words",
  [
    (0, 33, "last_step must be .*at most 32, not 33"),
    (-1, None, "first_step must be at least 0"),
    (3, 2, "first_step must be .*at most 2, not 3"),
    (1.5, None, "first_step must be a whole number, not 1.5"),
  ],
)
def test_steps_that_an_adaptation_does_not_have(case, rejects, first, last, words):
  model, params, tokens, cache = case
  cfg = tt.TTTConfig(span=16)
  run = lambda: tt.adapt(model, params, cache, tokens, _KEY, cfg, first_step=first, last_step=last)
  rejects(words, run)


@pytest.mark.parametrize("start", [1.5, "3", True], ids=str)
def test_a_start_that_is_no_token_index(case, rejects, start):
  model, params, tokens, cache = case
  cfg = tt.TTTConfig(span=16)
  words = "must be integer|must hold numbers"
  rejects(words, _step(case, start))
  rejects(words, lambda: tt.adapt(model, params, cache, tokens, _KEY, cfg, starts=[start]))


def test_starts_that_are_not_a_list(case, rejects):
  model, params, tokens, cache = case
  cfg = tt.TTTConfig(span=16)
  rejects(
    "starts must have shape",
    lambda: tt.adapt(model, params, cache, tokens, _KEY, cfg, starts=np.asarray(3)),
  )


def test_training_on_two_contexts_at_once(case, rejects):
  model, params, tokens, cache = case
  two = jax.tree.map(lambda x: np.repeat(x, 2, axis=1 if x.ndim == 5 else 0), cache)
  cfg = tt.TTTConfig(span=16)
  both = np.repeat(tokens, 2, axis=0)
  rejects("one context.*jax.vmap", lambda: tt.adapt(model, params, two, both, _KEY, cfg))


def test_context_tokens_that_are_not_those_of_the_cache(case, rejects):
  model, params, tokens, cache = case
  cfg = tt.TTTConfig(span=16)
  run = lambda t: lambda: tt.adapt(model, params, cache, t, _KEY, cfg)
  rejects("150 tokens but the cache holds 200", run(tokens[:, :150]))
  rejects("do not fit the capacity 256", run(_ids(1, 300)))


def test_evidence_of_another_shape(case, rejects):
  model, params, _, cache = case
  run = lambda marks: (
    lambda: tt.mechanism.attention_mass(model, params, None, cache, _ids(2, 5), None, marks)
  )
  rejects("evidence must be bool", run(np.zeros((1, _T), bool)))
  rejects("evidence marks 300 slots", run(np.zeros((2, 300), bool)))


@pytest.mark.parametrize(
  "fields, words",
  [
    ({"span": 0}, "span must be at least 1"),
    ({"span": 1.5}, "span must be a whole number, not 1.5"),
    ({"steps": -1}, "steps must be at least 0"),
    ({"learning_rate": -1e-3}, "learning_rate must be at least 0"),
    ({"learning_rate": float("nan")}, "learning_rate must be at least 0"),
    ({"weight_decay": -1}, "weight_decay must be at least 0"),
    ({"clip": 0.0}, "clip must be above 0"),
    ({"steps": 2**31}, "steps must be at most 2147483647, not 2147483648"),
    ({"steps": True}, "steps must be a whole number"),
    ({"eps": 1e-50}, "eps must be above 0 in float32, not 1e-50"),
    ({"b2": 1 - 1e-9}, "b2 must be below 1 in float32"),
    (
      {"learning_rate": np.ones(2)},
      r"learning_rate must be a number, not an array of shape \(2,\)",
    ),
    ({"learning_rate": 1e39}, "learning_rate must be finite in float32"),
    ({"learning_rate": "1e-5"}, "learning_rate must be a number, not '1e-5'"),
    ({"b1": 1.5}, "b1 must be below 1, not 1.5"),
    ({"b2": 1.0}, "b2 must be below 1, not 1.0"),
    ({"b2": -0.1}, "b2 must be at least 0"),
    ({"eps": -1}, "eps must be above 0, not -1"),
    ({"warmup_steps": 2.5}, "warmup_steps must be a whole number, not 2.5"),
    ({"warmup_steps": -1}, "warmup_steps must be at least 0"),
    ({"schedule": "step"}, "choose one of constant, linear, cosine"),
    ({"span_kv": "both"}, "choose one of frozen, recomputed"),
  ],
  ids=str,
)
def test_ttt_config(rejects, fields, words):
  rejects(words, lambda: tt.TTTConfig(**fields))


@pytest.mark.parametrize(
  "fields, words",
  [
    ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
    ({"temperature": -0.1}, "temperature must be at least 0, not -0.1"),
    ({"top_p": 1.1}, "top_p must be at most 1, not 1.1"),
    ({"top_k": -1}, "top_k must be at least 0, not -1"),
    ({"min_p": 2}, "min_p must be at most 1, not 2"),
    ({"stop_ids": tuple(range(17))}, "stop_ids holds more than 16"),
    ({"thinking_budget": 5}, "thinking_budget needs end_think"),
    (
      {"thinking_budget": 5, "end_think": 3, "forced_stop_ids": (4, 5)},
      "must hold end_think 3 once, not 0 times",
    ),
    (
      {"thinking_budget": 5, "end_think": 3, "forced_stop_ids": (3, 4, 3)},
      "must hold end_think 3 once, not 2 times",
    ),
    (
      {
        "thinking_budget": 5,
        "end_think": 3,
        "forced_stop_ids": (4, 3),
        "max_new_tokens": 7,
      },
      "thinking_budget 5 and 2 forced_stop_ids leave no room for an answer.*to at least 8",
    ),
    (
      {"thinking_budget": 1.5, "end_think": 3, "forced_stop_ids": (3,)},
      "thinking_budget must be a whole number, not 1.5",
    ),
    ({"max_new_tokens": 2.5}, "max_new_tokens must be a whole number, not 2.5"),
    ({"max_new_tokens": 2**31}, "max_new_tokens must be at most 2147483647"),
    ({"temperature": float("nan")}, "temperature must be at least 0, not nan"),
    ({"temperature": "hot"}, "temperature must be a number, not 'hot'"),
    ({"top_k": 1.5}, "top_k must be a whole number"),
    ({"stop_ids": (1, -1)}, "stop_ids must be at least 0, not -1"),
    ({"stop_ids": (1, 1.5)}, "stop_ids must be a whole number, not 1.5"),
    ({"stop_ids": 3}, "stop_ids must be a list of token ids, not 3"),
    ({"forced_stop_ids": "</think>"}, "forced_stop_ids must be a list of token ids"),
    ({"max_answer_tokens": 0}, "max_answer_tokens must be at least 1, not 0"),
    ({"max_answer_tokens": (3, 0)}, "max_answer_tokens must be at least 1, not 0"),
    ({"max_answer_tokens": ()}, "max_answer_tokens holds no number"),
  ],
  ids=str,
)
def test_sampling_config(rejects, fields, words):
  rejects(words, lambda: tt.SamplingConfig(**fields))


@pytest.mark.parametrize(
  "fields, words",
  [
    ({"stop_ids": (3, 97)}, "stop_ids holds token id 97, outside the model's vocabulary of 97"),
    (
      {"thinking_budget": 3, "end_think": 8, "forced_stop_ids": (5000, 8)},
      "forced_stop_ids holds token id 5000",
    ),
    (
      {"thinking_budget": 3, "end_think": 97, "forced_stop_ids": (97,)},
      "holds token id 97",
    ),
  ],
  ids=str,
)
def test_sampling_ids_outside_the_vocabulary(case, rejects, fields, words):
  model, params, _, cache = case
  sampling = tt.SamplingConfig(**fields)
  start = lambda function, *rest: lambda: function(model, params, None, cache, _ids(1, 5), *rest)
  rejects(words, start(tt.generate, _KEY, sampling))
  rejects(words, lambda: next(start(tt.stream, _KEY, sampling)()))
  rejects(words, start(tt.beam_search, sampling, 2))


@pytest.mark.parametrize(
  "row, words",
  [
    (np.arange(_T)[::-1], "at least 0 and increase"),
    (np.arange(_T) - 1, "at least 0 and increase"),
    (np.minimum(np.arange(_T), 150), "at least 0 and increase"),
    (np.arange(_T) + 0.5, "positions must be integers"),
  ],
  ids=["falling", "negative", "repeated", "fractions"],
)
def test_positions_that_do_not_increase(case, rejects, row, words):
  model, params, tokens, _ = case
  rejects(words, lambda: tt.prefill(model, params, tokens, positions=row[None]))


@pytest.mark.parametrize("capacity", [256.0, 2**40, "256", 0], ids=str)
def test_a_capacity_that_is_no_number_of_slots(case, rejects, capacity):
  model, params, tokens, _ = case
  rejects("capacity must be", lambda: tt.prefill(model, params, tokens, capacity=capacity))


@pytest.mark.parametrize("num_beams", [2.5, "2", 0, 98], ids=str)
def test_a_number_of_beams_that_is_none(case, rejects, num_beams):
  model, params, tokens, cache = case
  sampling = tt.SamplingConfig()
  run = lambda: tt.beam_search(model, params, None, cache, tokens[:, :3], sampling, num_beams)
  rejects("num_beams must be", run)


@pytest.mark.parametrize(
  "span, words",
  [
    (0, "must be"),
    (-3, "must be"),
    (2.5, "must be"),
    (np.array(16), "is an array"),
    (None, "must"),
  ],
  ids=str,
)
def test_held_out_spans_without_a_length(case, rejects, span, words):
  model, params, tokens, cache = case
  run = lambda: tt.mechanism.span_losses(model, params, None, cache, tokens, [0], span)
  rejects(f"span {words}", run)


@pytest.mark.parametrize("layer, etas", [(1.5, [0.1]), (-1, [0.1]), (0, 0.1), (0, ["a"])], ids=str)
def test_a_query_step_of_no_layer_or_size(case, rejects, layer, etas):
  model, params, tokens, cache = case
  marks = np.ones((1, _T), bool)
  run = lambda: tt.mechanism.query_step_check(
    model, params, None, cache, tokens[:, :3], None, marks, layer, etas
  )
  rejects("layer must be|etas must", run)


@pytest.mark.parametrize("scale", ["2", 0, -1, np.nan, 1e-60], ids=str)
def test_a_query_scale_that_is_no_factor(case, rejects, scale):
  rejects("scale must be", lambda: tt.scaled_queries(case[0], scale))


@pytest.mark.parametrize("broken", [{}, None, "other shapes"], ids=str)
def test_a_state_of_another_optimizer(case, rejects, broken):
  model, params, tokens, cache = case
  fast = tt.init_fast(model, params)
  if broken == "other shapes":
    broken = jax.tree.map(lambda x: np.zeros((*np.shape(x), 1)), tt.init_optimizer(fast))
  step = lambda fast, state: (
    lambda: tt.ttt_step(model, params, fast, state, cache, tokens, 0, tt.TTTConfig(span=16))
  )
  rejects("opt_state is not the optimizer state of these fast weights", step(fast, broken))
  rejects("fast is None: .*init_fast", step(None, broken))


def test_more_steps_than_memory_holds(case, rejects):
  model, params, tokens, cache = case
  cfg = tt.TTTConfig(steps=2**31 - 1, span=16)
  words = "2147483647 steps are more than the 16777216 of one call"
  rejects(words, lambda: tt.adapt(model, params, cache, tokens, _KEY, cfg))
  rejects(words, lambda: tt.full_ttt(model, params, tokens, None, cfg))


def test_a_number_of_steps_that_is_traced(case):
  model, params, tokens, cache = case
  run = lambda cfg: tt.adapt(model, params, cache, tokens, jax.random.key(0), cfg)[2]
  with pytest.raises(tt.UserError, match="steps is traced"):
    jax.eval_shape(run, tt.TTTConfig(steps=2, span=16))


def test_ragged_lists(case, rejects):
  model, params, _, cache = case
  ragged = [[1, 2, 3], [4, 5]]
  words = "rows of unequal lengths: pad them to one width and give their lengths"
  rejects("the context has " + words, lambda: tt.prefill(model, params, ragged))
  rejects(words, lambda: tt.score(model, params, None, cache, ragged))
  sampling = tt.SamplingConfig()
  rejects(words, lambda: tt.generate(model, params, None, cache, ragged, _KEY, sampling))
  rejects("must hold numbers", lambda: tt.prefill(model, params, [["a", "b"]]))


@pytest.mark.parametrize("every", [0, -1, 2.5])
def test_a_stream_that_would_never_go_on(case, rejects, every):
  model, params, tokens, cache = case
  run = lambda: next(
    tt.stream(model, params, None, cache, tokens[:, :3], _KEY, tt.SamplingConfig(), every=every)
  )
  rejects("every must be", run)


@pytest.mark.parametrize("step", [1.5, -1, "2", True], ids=str)
def test_saving_after_no_number_of_steps(tmp_path, rejects, step):
  rejects("step must be", lambda: tt.save_fast(tmp_path / "fast", {}, {}, step))
  assert not (tmp_path / "fast").exists()


@pytest.mark.parametrize("path", [None, 3, b"runs"], ids=str)
def test_what_is_no_path_to_a_checkpoint(rejects, path):
  for function in (tt.from_pretrained, tt.load_tokenizer, tt.Session.open):
    rejects("the path of the checkpoint must be a path", lambda: function(path))


# Arguments of another kind, in every function that takes them.

_TRUE_KEY = jax.random.key(0)
_CFG = tt.TTTConfig(steps=2, span=16)
_SAMPLING = tt.SamplingConfig(max_new_tokens=4)


def _calls(case):
  """name -> (function of what an argument is replaced by, the names that it takes)."""
  model, params, tokens, cache = case
  prompt = tokens[:, :5]
  fast = {"layers": {"attention": {"query": {"delta": None}}}}
  if model is not None:
    kernel = params["layers"]["attention"]["query"]["kernel"]
    fast = {"layers": {"attention": {"query": {"delta": np.zeros(kernel.shape, np.float32)}}}}
  base = {
    "model": model,
    "params": params,
    "cache": cache,
    "key": _TRUE_KEY,
    "cfg": _CFG,
    "sampling": _SAMPLING,
    "fast": fast,
  }
  functions = {
    "prefill": lambda model, params: tt.prefill(model, params, tokens),
    "init_fast": lambda model, params: tt.init_fast(model, params),
    "adapt": lambda model, params, cache, key, cfg: tt.adapt(
      model, params, cache, tokens, key, cfg
    ),
    "adapt_params": lambda model, params, key, cfg: tt.adapt_params(
      model, params, tokens, key, cfg
    ),
    "ttt_step": lambda model, params, cache, cfg, fast: tt.ttt_step(
      model, params, fast, None, cache, tokens, 0, cfg
    ),
    "full_ttt": lambda model, params, cfg: tt.full_ttt(model, params, tokens, None, cfg),
    "generate": lambda model, params, cache, key, sampling: tt.generate(
      model, params, None, cache, prompt, key, sampling
    ),
    "stream": lambda model, params, cache, key, sampling: next(
      tt.stream(model, params, None, cache, prompt, key, sampling)
    ),
    "beam_search": lambda model, params, cache, sampling: tt.beam_search(
      model, params, None, cache, prompt, sampling, 2
    ),
    "score": lambda model, params, cache: tt.score(model, params, None, cache, prompt),
    "attention_mass": lambda cache: tt.mechanism.attention_mass(
      model, params, None, cache, prompt, None, np.ones((1, _T), bool)
    ),
    "span_losses": lambda cache: tt.mechanism.span_losses(
      model, params, None, cache, tokens, [3], 16
    ),
    "merge": lambda model, params: tt.merge(model, params, None),
  }

  def call(function):
    names = inspect.signature(function).parameters
    return names, lambda **other: function(**{n: base[n] for n in names} | other)

  return {name: call(function) for name, function in functions.items()}


# argument -> (values of another kind, what is said of them)
_OTHER_KINDS = {
  "key": (
    (0, None, np.zeros((3, 2), np.uint32), np.zeros(2)),
    "key is .*give (key=jax.random.key|one of them)",
  ),
  "cfg": (({}, None, 3, _SAMPLING), "cfg is .*give a TTTConfig"),
  "sampling": (({}, None, 3, _CFG), "sampling is .*give a SamplingConfig"),
  "cache": (({}, None, 3, (None, None)), "cache is .*give the first of the two values"),
  "params": (({}, None, 3, "x", {"layers": 3}), "params hold no .*which this model has"),
  "model": (({}, None, "embedded"), "model is .*from_pretrained returned"),
}
_TAKEN = [
  (name, argument)
  for name, (names, _) in _calls((None, None, np.ones((1, 9)), None)).items()
  for argument in names
  if argument in _OTHER_KINDS
]


@pytest.mark.parametrize("name, argument", _TAKEN)
def test_arguments_of_another_kind(case, rejects, name, argument):
  values, words = _OTHER_KINDS[argument]
  for value in values:
    rejects(words, lambda: _calls(case)[name][1](**{argument: value}))


def test_parameters_of_another_model(case, rejects):
  model, params, tokens, _ = case
  wider = params | {"embed": {"embedding": np.zeros((98, 40), np.float32)}}
  words = r"embed/embedding of params has shape \[98, 40\], this model's \[97, 40\]"
  rejects(words, lambda: tt.prefill(model, wider, tokens))
  without = {name: value for name, value in params.items() if name != "final_norm"}
  rejects("params hold no final_norm", lambda: tt.prefill(model, without, tokens))


@pytest.mark.parametrize("opt_state", ["x", 3, {"a": "float32"}, ("x",)], ids=str)
def test_what_is_no_state_of_an_optimizer(case, rejects, opt_state):
  model, params, tokens, cache = case
  fast = tt.init_fast(model, params)
  words = "opt_state is not the optimizer state of these fast weights"
  rejects(words, lambda: tt.ttt_step(model, params, fast, opt_state, cache, tokens, 0, _CFG))
  rejects(
    words,
    lambda: tt.adapt(model, params, cache, tokens, _TRUE_KEY, _CFG, fast=fast, opt_state=opt_state),
  )


@pytest.mark.parametrize("fast", ["x", None, {}, 3, {"a": "x"}], ids=str)
def test_an_optimizer_of_no_weights(rejects, fast):
  rejects("fast (is|holds) .*give what init_fast", lambda: tt.init_optimizer(fast))


def test_scaled_queries_are_refused_before_anything_is_compiled(case, rejects):
  model, params, tokens, cache = case
  scaled = tt.scaled_queries(model, 1.5)
  words = "these fast weights scale the queries"
  rejects(words, lambda: tt.adapt(model, params, cache, tokens, _TRUE_KEY, _CFG, fast=scaled))
  rejects(words, lambda: tt.ttt_step(model, params, scaled, None, cache, tokens, 0, _CFG))
  rejects(words, lambda: tt.merge(model, params, scaled))


# Numbers and ids, however they are held.


@pytest.mark.parametrize(
  "fields, words",
  [
    ({"clip": 10**400}, "clip must be finite in float32"),
    ({"steps": 10**5000}, "steps must be at most 2147483647"),
    ({"steps": np.array([5])}, r"steps must be a whole number, not an array of shape \(1,\)"),
    ({"span": np.array([5])}, "span must be a whole number, not an array"),
    ({"learning_rate": np.array([0.1])}, "learning_rate must be a number, not an array"),
    ({"schedule": np.array(["linear", "cosine"])}, "schedule is an array"),
    ({"schedule": ["linear"]}, "choose one of constant, linear, cosine"),
  ],
  ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)
def test_ttt_config_of_arrays_and_large_numbers(rejects, fields, words):
  rejects(words, lambda: tt.TTTConfig(**fields))


@pytest.mark.filterwarnings("error")
def test_a_clip_beyond_float32_is_none():
  assert np.isinf(tt.TTTConfig(clip=1e300).traced().clip)


@pytest.mark.parametrize("field", ["stop_ids", "forced_stop_ids"])
@pytest.mark.parametrize("ids", [[[1], [2, 3]], [[1, 2]], np.ones((2, 2), int), {}, None], ids=str)
def test_ids_that_are_no_list(rejects, field, ids):
  rejects(f"{field} must be a list of token ids", lambda: tt.SamplingConfig(**{field: ids}))


def test_configs_of_arrays_equal_those_of_numbers():
  zero, ids = lambda x: np.array(x), np.array([4, 3])
  fields = dict(max_new_tokens=9, thinking_budget=2, end_think=3, top_k=5, max_answer_tokens=2)
  plain = tt.SamplingConfig(stop_ids=(4, 3), forced_stop_ids=(4, 3), top_p=0.5, **fields)
  arrays = {name: zero(value) for name, value in fields.items()}
  for held in (ids, jax.numpy.asarray(ids), [np.array(4), 3]):
    other = tt.SamplingConfig(stop_ids=held, forced_stop_ids=held, top_p=zero(0.5), **arrays)
    assert other == plain and hash(other) == hash(plain)
  cfg = tt.TTTConfig(steps=zero(3), span=jax.numpy.array(16), learning_rate=zero(0.5))
  same = tt.TTTConfig(steps=3, span=16, learning_rate=0.5)
  assert cfg == same and hash(cfg) == hash(same)


def test_static_arguments_that_are_arrays_are_those_numbers(case):
  model, params, tokens, cache = case
  prompt, one = tokens[:, :5], np.array
  sampling = tt.SamplingConfig(max_new_tokens=one(3))
  got = tt.generate(
    model, params, None, cache, prompt, _TRUE_KEY, sampling, question_before=one(True)
  )
  assert got.tokens.shape == (1, 3)
  assert tt.beam_search(model, params, None, cache, prompt, sampling, one(2)).tokens.shape == (1, 3)
  parts = list(tt.stream(model, params, None, cache, prompt, _TRUE_KEY, sampling, every=one(1)))
  assert len(parts) == 3
  assert tt.prefill(model, params, tokens, capacity=one(256))[0].capacity == 256
  cfg = tt.TTTConfig(steps=one(2), span=one(16))
  _, _, history = tt.adapt(
    model, params, cache, tokens, _TRUE_KEY, cfg, first_step=one(0), last_step=jax.numpy.array(1)
  )
  assert history.loss.shape == (1,)


@pytest.mark.parametrize("value", ["no", "yes", 1, 0, None, np.array([True])], ids=str)
def test_a_flag_that_is_neither_true_nor_false(case, rejects, value):
  model, params, tokens, cache = case
  rejects(
    "question_before must be True or False",
    lambda: tt.generate(
      model, params, None, cache, tokens[:, :5], _KEY, _SAMPLING, question_before=value
    ),
  )


def _traced_calls(case):
  """argument -> a function that gives it a traced whole number."""
  model, params, tokens, cache = case
  adapt = lambda **more: tt.adapt(model, params, cache, tokens, _TRUE_KEY, _CFG, **more)
  after = (model, params, None, cache, tokens[:, :5])
  generate = lambda sampling, **more: tt.generate(*after, _TRUE_KEY, sampling, **more)
  return {
    "last_step": lambda s: adapt(last_step=s),
    "first_step": lambda s: adapt(first_step=s),
    "TTTConfig.span": lambda s: tt.TTTConfig(span=s),
    "SamplingConfig.max_new_tokens": lambda s: tt.SamplingConfig(max_new_tokens=s),
    "SamplingConfig.stop_ids": lambda s: tt.SamplingConfig(stop_ids=jax.numpy.stack([s, s])),
    "SamplingConfig.forced_stop_ids": lambda s: tt.SamplingConfig(forced_stop_ids=[s]),
    "SamplingConfig.end_think": lambda s: tt.SamplingConfig(end_think=s),
    "num_beams": lambda s: tt.beam_search(*after, _SAMPLING, s),
    "question_before": lambda s: generate(_SAMPLING, question_before=s > 0),
    "every": lambda s: next(tt.stream(*after, _TRUE_KEY, _SAMPLING, every=s)),
    "capacity": lambda s: tt.prefill(model, params, tokens, capacity=s),
    "span": lambda s: tt.mechanism.span_losses(model, params, None, cache, tokens, [3], s),
    "data": lambda s: tt.make_mesh(data=s),
  }


@pytest.mark.parametrize("argument", _traced_calls((None, None, np.ones((1, 9)), None)))
def test_a_static_argument_that_is_traced(case, argument):
  def traced(s):
    _traced_calls(case)[argument](s)

  with pytest.raises(tt.UserError, match=f"^{argument} is traced, but a compiled program depends"):
    jax.eval_shape(traced, jax.ShapeDtypeStruct((), np.int32))


# Positions, starts and lengths that would wrap.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64])
def test_unsigned_positions_that_fall(case, rejects, dtype):
  model, params, tokens, _ = case
  positions = np.arange(_T)[None].astype(dtype)
  tt.prefill(model, params, tokens, positions=positions)
  words = "at least 0 and increase"
  rejects(words, lambda: tt.prefill(model, params, tokens, positions=positions[:, ::-1]))


def test_positions_beyond_a_rows_length_are_not_judged(case, rejects):
  model, params, tokens, _ = case
  two, lengths = np.repeat(tokens, 2, axis=0), np.array([150, 170])
  positions = np.repeat(np.arange(_T)[None], 2, axis=0)
  plain = tt.prefill(model, params, two, lengths, positions=positions)[1]
  positions[0, 150:], positions[1, 170:] = 10**6, -5
  np.testing.assert_array_equal(
    tt.prefill(model, params, two, lengths, positions=positions)[1], plain
  )
  positions[1, 169] = 10**6
  words = "position 1000000 but max_position"
  rejects(words, lambda: tt.prefill(model, params, two, lengths, positions=positions))


@pytest.mark.parametrize(
  "tokens, words",
  [
    (-1, "tokens must be at least 0, not -1"),
    (1.5, "tokens must be a whole number, not 1.5"),
    ("1", "tokens must be a whole number, not '1'"),
    (True, "tokens must be a whole number, not True"),
    (_T, r"cannot rewind 200 tokens of a context of \[200\].*leave at least one"),
    ([_T + 1], r"cannot rewind \[201\] tokens"),
    (np.array([-1]), r"cannot rewind \[-1\] tokens"),
    (np.array([1.0]), r"integers \[1\], not float"),
    (np.array([1, 2]), r"integers \[1\], not int(32|64) \[2\]"),
  ],
  ids=str,
)
def test_tokens_that_a_cache_cannot_be_rewound_by(case, rejects, tokens, words):
  rejects(words, lambda: case[3].rewind(tokens))


@pytest.mark.parametrize("tokens", [0, 1, _T - 1, [3], np.array([3], np.uint8), np.uint64(3)])
def test_a_cache_is_rewound(case, tokens):
  lengths = case[3].rewind(tokens).lengths
  assert lengths.dtype == np.int32 and lengths.tolist() == [_T - int(np.max(tokens))]
  traced = jax.jit(lambda cache, n: cache.rewind(n))(case[3], np.asarray(tokens))
  assert traced.lengths.tolist() == lengths.tolist() and traced.lengths.dtype == np.int32


# Where an adaptation goes on.


def test_an_adaptation_that_goes_on_from_nothing(case, rejects):
  model, params, tokens, cache = case
  fast = tt.init_fast(model, params)
  state = tt.init_optimizer(fast)
  run = lambda **more: lambda: tt.adapt(model, params, cache, tokens, _TRUE_KEY, _CFG, **more)
  remedy = ".*give fast=fast, opt_state=opt_state and first_step=step"
  rejects("first_step is 1 but fast is None" + remedy, run(first_step=1))
  rejects("first_step is 1 but fast is None" + remedy, run(first_step=1, opt_state=state))
  rejects("first_step is 1 but opt_state is None" + remedy, run(first_step=1, fast=fast))
  rejects("opt_state is given but fast is None" + remedy, run(opt_state=state))


def test_an_adaptation_that_goes_on_from_another_step(case, rejects):
  model, params, tokens, cache = case
  run = lambda **more: tt.adapt(model, params, cache, tokens, _TRUE_KEY, _CFG, **more)
  fast, opt_state, _ = run()
  state = dict(fast=fast, opt_state=opt_state)
  words = "opt_state has taken 2 steps but first_step is 0.*first_step=step"
  rejects(words, lambda: run(**state))
  rejects("taken 2 steps but first_step is 1", lambda: run(**state, first_step=1))
  assert run(**state, first_step=2)[2].loss.shape == (0,)
  # Steps that are not finite count nothing: fewer are no mistake that can be told.
  fresh = tt.init_optimizer(fast)
  assert run(fast=fast, opt_state=fresh, first_step=1)[2].ok.tolist() == [True]
  assert run(fast=fast)[2].loss.shape == (2,)


# Meshes.


@pytest.mark.parametrize(
  "sizes, words",
  [
    ({"data": -1, "fsdp": -1}, "data must be at least 1, not -1"),
    ({"data": None}, "data must be a whole number, not None"),
    ({"fsdp": 8.0}, "fsdp must be a whole number, not 8.0"),
    ({"tensor": True}, "tensor must be a whole number, not True"),
    ({"context": 0}, "context must be at least 1"),
    ({"data": 3}, "needs 3 devices but 8 are given"),
  ],
  ids=str,
)
def test_sizes_that_make_no_mesh(rejects, sizes, words):
  rejects(words, lambda: tt.make_mesh(**sizes))


@pytest.mark.parametrize("mesh", ["x", 8, (8,)], ids=str)
def test_loading_onto_no_mesh(rejects, mesh):
  for function in (tt.from_pretrained, tt.Session.open):
    rejects("mesh is .*make_mesh", lambda: function("embedded", mesh=mesh))
