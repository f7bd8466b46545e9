"""Layers apart: the same results from the same memory, and decoding copies no weights."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tttjax as tt
from tttjax import together
from tttjax.decode import generation
from tttjax.models.layers_apart import apart, apart_for, is_apart

_LAYERS, _HIDDEN, _MLP = 3, 64, 96


@pytest.fixture(scope="module")
def model_and_params():
  config = tt.DecoderConfig(
    vocab_size=97,
    hidden_size=_HIDDEN,
    intermediate_size=_MLP,
    num_hidden_layers=_LAYERS,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    rope_theta=1e4,
    max_position_embeddings=4096,
  )
  model = tt.Decoder(config)
  return model, tt.init_params(model, jax.random.key(1))


@pytest.fixture(scope="module")
def fast(model_and_params):
  fast = tt.init_fast(*model_and_params)
  random = lambda x: 0.01 * jax.random.normal(jax.random.key(2), x.shape)
  return jax.tree.map(random, fast)


@pytest.fixture(scope="module")
def cache(model_and_params, rng_tokens):
  return tt.prefill(*model_and_params, rng_tokens)[0]


@pytest.fixture(scope="module")
def rng_tokens():
  return np.random.default_rng(0).integers(0, 97, (1, 200)).astype(np.int32)


def test_each_layer_is_a_view_of_the_stack(model_and_params):
  _, params = model_and_params
  (taken,) = apart(params)
  assert is_apart(taken) and not is_apart(params)
  assert len(taken["layers"]) == _LAYERS
  whole = params["layers"]["mlp"]["gate"]["kernel"]
  for i, layer in enumerate(taken["layers"]):
    part = layer["mlp"]["gate"]["kernel"]
    np.testing.assert_array_equal(part, whole[i])
    assert part.unsafe_buffer_pointer() - whole.unsafe_buffer_pointer() == i * part.nbytes
  assert taken["embed"] is params["embed"]


def test_a_mesh_of_one_device_is_no_obstacle(model_and_params, cache, rng_tokens):
  """As a process has that takes contexts by itself."""
  model, params = model_and_params
  device = jax.devices()[3]
  placed = jax.tree.map(
    lambda like, x: jax.device_put(x, like.sharding),
    tt.abstract_params(model.clone(mesh=tt.make_mesh(devices=[device]))),
    params,
  )
  on_mesh = model.clone(mesh=tt.make_mesh(devices=[device]))
  (taken,) = apart(placed)
  assert is_apart(taken) and taken["layers"][1]["mlp"]["up"]["kernel"].devices() == {device}
  sampling, key = tt.SamplingConfig(max_new_tokens=20), jax.random.key(0)
  own, _ = tt.prefill(on_mesh, placed, rng_tokens)
  got = tt.generate(on_mesh, placed, None, own, rng_tokens[:, :8], key, sampling)
  expected = tt.generate(model, params, None, cache, rng_tokens[:, :8], key, sampling)
  np.testing.assert_array_equal(got.tokens, expected.tokens)


def test_a_few_tokens_are_not_worth_the_longer_program(model_and_params):
  _, params = model_and_params
  assert [is_apart(apart_for(n, params)[0]) for n in (1, 15, 16, 8192)] == [
    False,
    False,
    True,
    True,
  ]


def test_views_outlive_the_stack(model_and_params):
  _, params = model_and_params
  stack = {"layers": {"kernel": jnp.arange(3 * 40000, dtype=jnp.float32).reshape(3, 40000)}}
  (taken,) = apart(stack)
  del stack
  jnp.zeros((3, 40000)).block_until_ready()  # what would take memory that was given back
  np.testing.assert_array_equal(taken["layers"][2]["kernel"], np.arange(80000.0, 120000.0))


@pytest.mark.parametrize("fast_too", [False, True])
def test_hidden_states_are_those_of_the_scan(model_and_params, fast, rng_tokens, fast_too):
  model, params = model_and_params
  variables = {"params": params, "ttt": fast} if fast_too else {"params": params}
  taken = dict(zip(variables, apart(*variables.values())))
  run = jax.jit(lambda v: model.apply(v, rng_tokens))
  np.testing.assert_allclose(run(taken), run(variables), rtol=2e-5, atol=2e-5)


def test_generation_is_that_of_the_scan(model_and_params, fast, cache, rng_tokens):
  model, params = model_and_params
  prompt, lengths = jnp.asarray(rng_tokens[:, :32]), jnp.full((1,), 32, jnp.int32)
  sampling = tt.SamplingConfig(max_new_tokens=24).traced(1)
  rest = cache, prompt, lengths, jax.random.key(0), sampling
  scanned = generation._generate(model, 24, False, params, fast, *rest)
  each = generation._generate(model, 24, False, *apart(params, fast), *rest)
  np.testing.assert_array_equal(each.tokens, scanned.tokens)
  np.testing.assert_allclose(each.logprobs, scanned.logprobs, atol=1e-4)


def test_what_cannot_be_taken_apart_stays(model_and_params, fast):
  _, params = model_and_params
  assert jax.jit(lambda p: is_apart(apart(p)[0]))(params) == False  # noqa: E712
  mesh = tt.make_mesh(tensor=2, devices=jax.devices()[:2])
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  placed = jax.device_put(fast, everywhere)
  assert apart(params, placed) == (params, placed)
  assert is_apart(apart(params, None)[0]) and apart(params, None)[1] is None


def test_inside_a_callers_jit_closing_over_the_weights(model_and_params, cache, rng_tokens):
  model, params = model_and_params
  sampling = tt.SamplingConfig(max_new_tokens=20)
  run = lambda key: tt.generate(model, params, None, cache, rng_tokens[:, :8], key, sampling).tokens
  np.testing.assert_array_equal(jax.jit(run)(jax.random.key(0)), run(jax.random.key(0)))


def weight_copies(model, params, cache):
  """Shapes of the weights that the compiled decoding loop slices out of the stacks."""
  sampling = tt.SamplingConfig(max_new_tokens=4).traced(1)
  prompt, lengths = jnp.zeros((1, 32), jnp.int32), jnp.full((1,), 32, jnp.int32)
  arguments = cache, prompt, lengths, jax.random.key(0), sampling
  program = generation._generate.lower(model, 4, False, params, None, *arguments).compile()
  shapes = {f"{_HIDDEN},{_MLP}", f"{_MLP},{_HIDDEN}", f"{_HIDDEN},{_HIDDEN}"}
  found = re.findall(r"= f32\[(?:1,)?([\d,]+)\]\S* fusion\([^\n]*dynamic_slice", program.as_text())
  return shapes & set(found)


def test_no_weights_are_copied_out_of_a_stack(model_and_params, cache):
  model, params = model_and_params
  assert weight_copies(model, params, cache)  # what there would be
  assert not weight_copies(model, *apart(params), cache)


def test_contexts_that_work_together_share_the_views(model_and_params):
  """Each takes the layers apart for itself; stacked by `vmap` they would be copies of the model."""
  _, params = model_and_params
  taken = [jax.tree.leaves(apart(params)) for _ in range(2)]
  assert all(map(together._all_equal, zip(*taken)))
  copies = jax.tree.map(jnp.copy, params)
  other = jax.tree.leaves(apart(copies))
  assert not any(map(together._all_equal, zip(taken[0], other)))
