"""Several contexts through one program: the same results, and the work of one call."""

import time

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference
import tttjax as tt
from tttjax import compiling, together
from tttjax.decode.beams import beam_search
from tttjax.mechanism import attention_statistics, span_losses
from tttjax.session.cost import timed
from tttjax.together import program
from tttjax.vmapped_bounds import anywhere, greatest, least

LENGTHS = (150, 200, 97)


@pytest.fixture
def traced():
  """A function that is traced by a program, and the shapes that it was traced with."""
  shapes = []

  @program(static=1)
  def double(factor, x, shift):
    shapes.append(x.shape)
    return {"y": factor * x + shift}

  return double, shapes


def test_calls_of_one_program_are_one_call(traced):
  double, shapes = traced
  inputs = [np.full(3, float(i)) for i in range(4)]
  shift = jnp.ones(3)
  out = together.run([lambda x=x: double(2, x, shift) for x in inputs])
  for x, result in zip(inputs, out):
    np.testing.assert_array_equal(result["y"], 2 * x + 1)
  assert shapes == [(3,)]
  before = compiling.count()
  together.run([lambda x=x: double(2, x + 1, shift) for x in inputs])
  assert shapes == [(3,)] and compiling.count() == before


def test_calls_of_other_shapes_statics_and_programs_are_calls_of_their_own(traced):
  double, shapes = traced
  half = program(static=0)(lambda x: x / 2)
  calls = [
    lambda: double(2, np.ones(3), np.zeros(3)),
    lambda: double(2, np.ones(5), np.zeros(5)),
    lambda: double(3, np.ones(3), np.ones(3)),
    lambda: half(np.ones(3)),
    lambda: "nothing",
  ]
  out = together.run(calls)
  values = [float(x["y"][0]) for x in out[:3]]
  assert values == [2, 2, 4] and out[3][0] == 0.5 and out[4] == "nothing"
  assert len(shapes) == 3


def test_a_thread_goes_on_where_others_have_ended(traced):
  double, _ = traced

  def often(times):
    x = np.ones(2)
    for _ in range(times):
      x = double(2, x, np.zeros(2))["y"]
    return float(x[0])

  assert together.run([lambda n=n: often(n) for n in (1, 4, 0, 2)]) == [2, 16, 1, 4]


def test_same_numbers_are_not_batched_and_others_are():
  """A loop's bound stays one number, so that nothing is carried twice."""
  seen = []

  @program(static=0)
  def count(steps, x):
    seen.append(isinstance(steps, jax.core.Tracer) and getattr(steps, "batch_dim", None))
    return steps * x

  out = together.run([lambda i=i: count(np.int32(3), np.float32(i)) for i in range(2)])
  assert [float(x) for x in out] == [0, 3] and seen == [None]
  out = together.run([lambda i=i: count(np.int32(i), np.float32(2)) for i in range(2)])
  assert [float(x) for x in out] == [0, 2] and seen[1] is not None
  out = together.run([lambda: count(np.int32(5), np.float32(2)) for _ in range(2)])
  assert [float(x) for x in out] == [10, 10]  # nothing is different: it is done once


def test_an_error_is_raised_when_all_have_ended(traced):
  double, _ = traced
  ended = []

  def fine():
    ended.append(float(double(2, np.ones(2), np.ones(2))["y"][0]))

  def wrong():
    raise ValueError("of one context")

  with pytest.raises(ValueError, match="of one context"):
    together.run([fine, wrong, fine])
  assert ended == [3, 3]


def test_what_does_not_fit_at_the_same_time_is_done_one_by_one(traced, monkeypatch):
  double, _ = traced

  def too_large(calls):
    if len(calls) > 1:
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    return [double.alone(calls[0])]

  monkeypatch.setattr(double, "of_several", too_large)
  out = together.run([lambda i=i: double(2, np.full(2, i), np.zeros(2)) for i in range(3)])
  assert [float(x["y"][0]) for x in out] == [0, 2, 4]


def test_an_error_of_the_program_is_that_of_every_context():
  def broken(x):
    raise TypeError("cannot be traced")

  broken, caught = program(static=0)(broken), []

  def call(i):
    with pytest.raises(TypeError, match="cannot be traced"):
      broken(np.float32(i))
    caught.append(i)

  together.run([lambda i=i: call(i) for i in range(3)])
  assert sorted(caught) == [0, 1, 2]


def test_each_context_is_charged_its_share_and_told_of_compilation():
  @program(static=0)
  def slow(x):
    def wait(x):
      time.sleep(0.3)
      return x

    return jax.pure_callback(
      wait, jax.ShapeDtypeStruct((), jnp.float32), x.sum(), vmap_method="sequential"
    )

  def work(i):
    clocks = []
    for _ in range(2):
      with timed() as clock:
        if i == 0:
          time.sleep(0.2)  # its own work, for which the others wait
        slow(np.full(2, i, np.float32))
      clocks.append(clock)
    return clocks

  began = time.perf_counter()
  (first, second), (_, other) = together.run([lambda i=i: work(i) for i in range(2)])
  whole = (time.perf_counter() - began) / 2  # seconds of one round, both contexts
  assert first.compiled and not second.compiled and not other.compiled
  assert other.seconds < second.seconds  # which has 0.2 s of its own
  assert second.seconds + other.seconds < whole + 0.1


@pytest.fixture(scope="module")
def contexts(small):
  """Contexts of several lengths in caches of one capacity, each with everything that it needs."""
  _, model, params = small
  rng = np.random.default_rng(7)
  made = []
  for i, length in enumerate(LENGTHS):
    tokens = reference.repeating_tokens(rng, length)
    prompt = rng.integers(0, model.config.vocab_size, (2, 9))
    made.append((tokens, prompt, np.array([9, 4 + i]), jax.random.key(i)))
  return model, params, made


CFG = tt.TTTConfig(steps=5, span=16, learning_rate=3e-3)


def everything(model, params, context):
  """What a session does with a context, in arrays."""
  tokens, prompt, lengths, key = context
  cache, logits = tt.prefill(model, params, tokens, capacity=256)
  fast, _, history = tt.adapt(model, params, cache, tokens, key, CFG)
  arguments = model, params, fast, cache
  marks = np.zeros((2, 200), bool)
  marks[:, 30:40] = True
  sampling = tt.SamplingConfig(
    max_new_tokens=12,
    temperature=0.7,
    top_k=20,
    thinking_budget=6,
    end_think=3,
    forced_stop_ids=(3,),
  )
  full, losses = tt.full_ttt(
    model,
    params,
    np.pad(tokens, ((0, 0), (0, 256 - tokens.shape[1]))),
    np.array([tokens.shape[1]]),
    tt.TTTConfig(steps=2, span=1, learning_rate=1e-4),
  )
  return {
    "logits": logits,
    "losses": history.loss,
    "fast": fast,
    "generated": tt.generate(*arguments, prompt, key, sampling, lengths),
    "greedy": tt.generate(*arguments, prompt, key, tt.SamplingConfig(max_new_tokens=12), lengths),
    "beams": beam_search(*arguments, prompt, tt.SamplingConfig(max_new_tokens=8), 3, lengths),
    "scores": tt.score(*arguments, prompt, lengths),
    "attention": attention_statistics(*arguments, prompt, lengths, marks),
    "held out": span_losses(*arguments, tokens, np.array([3, 40]), 16),
    "full": losses.loss,
    "norm": sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(full)),
  }


def test_everything_that_a_session_does_is_the_same_together(contexts):
  model, params, made = contexts
  alone = [everything(model, params, context) for context in made]
  side_by_side = together.run([lambda c=c: everything(model, params, c) for c in made])
  for one, other in zip(alone, side_by_side):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for (path, a), (_, b) in zip(*map(jax.tree_util.tree_leaves_with_path, (one, other))):
      where = jax.tree_util.keystr(path)
      if "fast" in where:  # AdamW's first steps make much of a gradient that is next to nothing
        assert np.linalg.norm(a - b) < 1e-3 * np.linalg.norm(a)
        continue
      if np.issubdtype(np.asarray(a).dtype, np.floating):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5, err_msg=where)
      else:
        np.testing.assert_array_equal(a, b, err_msg=where)


def test_public_functions_check_each_context_by_itself(contexts):
  """One wrong context says so; the others are answered."""
  model, params, made = contexts

  def answer(context, span):
    tokens, *_, key = context
    cache, _ = tt.prefill(model, params, tokens, capacity=256)
    try:
      cfg = tt.TTTConfig(steps=2, span=span)
      return tt.adapt(model, params, cache, tokens, key, cfg)[2].loss.shape
    except tt.UserError as error:
      return str(error)

  spans = 16, 16, 120
  out = together.run([lambda c=c, s=s: answer(c, s) for c, s in zip(made, spans)])
  assert out[:2] == [(2,), (2,)] and "span" in out[2] and "97 tokens" in out[2]


def selects(jaxpr, shape):
  """How many selects of arrays of a shape there are within loops."""
  found = 0

  def visit(jaxpr, inside):
    nonlocal found
    for equation in jaxpr.eqns:
      found += (
        inside
        and equation.primitive.name == "select_n"
        and any(shape(out.aval.shape) for out in equation.outvars)
      )
      for sub in jax.extend.core.jaxprs_in_params(equation.params):
        visit(sub, inside or equation.primitive.name == "while")

  visit(jaxpr.jaxpr, False)
  return found


@pytest.mark.parametrize("what", ["generate", "beams", "adapt", "prefill"])
def test_no_cache_is_selected_in_a_loop_over_contexts(contexts, what):
  """A loop whose bound differs by context would copy what it carries at every turn."""
  model, params, made = contexts
  caches = [tt.prefill(model, params, tokens, capacity=256)[0] for tokens, *_ in made]
  cache = jax.tree.map(lambda *x: jnp.stack(x), *caches)
  prompts = np.stack([prompt for _, prompt, _, _ in made])
  tokens = np.stack([np.resize(tokens, (1, 256)) for tokens, *_ in made])
  keys = jnp.stack([key for *_, key in made])
  run = {
    "generate": lambda cache, prompt, tokens, key: tt.generate(
      model, params, None, cache, prompt, key, tt.SamplingConfig(max_new_tokens=12)
    ),
    "beams": lambda cache, prompt, tokens, key: beam_search(
      model, params, None, cache, prompt, tt.SamplingConfig(max_new_tokens=8), 3
    ),
    "adapt": lambda cache, prompt, tokens, key: tt.adapt(model, params, cache, tokens, key, CFG),
    "prefill": lambda cache, prompt, tokens, key: tt.prefill(
      model, params, tokens, cache.lengths, capacity=256
    ),
  }[what]
  jaxpr = jax.make_jaxpr(jax.vmap(run))(cache, prompts, tokens, keys)
  # [contexts, L, B, K, S, d]
  like_a_cache = lambda shape: len(shape) == 6 and shape[-1] == model.config.head_dim
  assert selects(jaxpr, like_a_cache) == 0


def test_bounds_are_one_for_all_contexts():
  x = jnp.arange(6).reshape(2, 3)
  one = lambda x: (greatest(x), least(x), anywhere(x == 4))
  assert jax.tree.map(int, one(jnp.int32(4))) == (4, 4, 1)
  np.testing.assert_array_equal(
    jax.vmap(jax.vmap(one))(x), [[[5] * 3] * 2, [[0] * 3] * 2, [[1] * 3] * 2]
  )
