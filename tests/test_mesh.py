"""The mesh and its rules: what may be asked of them, a caller's own mesh, shard_map and vmap."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
import mesh_flow
import numpy as np
import pytest

import tttjax as tt
from tttjax.sharding import spec

CONFIG = dataclasses.replace(mesh_flow.CONFIG, num_hidden_layers=1)
TTT = dataclasses.replace(mesh_flow.TTT, steps=2)
CONTEXTS = mesh_flow.numbers()[0][:, :100]
ONE_DEVICE = tt.Decoder(CONFIG)


@pytest.fixture(scope="module")
def params():
  return mesh_flow.host_params(CONFIG)


def delta(fast):
  return fast["layers"]["attention"]["query"]["delta"]


def assert_close(got, expected):
  assert mesh_flow.relative_error(got, expected) < 1e-4


def test_make_mesh_refuses_sizes_that_do_not_multiply_to_the_devices():
  with pytest.raises(tt.UserError, match="needs 6 devices but 8 are given"):
    tt.make_mesh(data=2, tensor=3)


def test_rules_drop_axes_that_are_missing_or_do_not_divide():
  mesh = tt.make_mesh(data=2, tensor=4)
  assert spec(mesh, ("embed", "heads", None), (32, 8, 8)) == P(None, "tensor", None)
  assert spec(mesh, ("embed", "kv_heads", None), (32, 2, 8)) == P(None, None, None)
  assert spec(mesh, ("batch", "slots"), (2, 128)) == P("data", None)
  assert spec(mesh, ("batch", "slots"), (1, 128)) == P(None, None)
  mesh = tt.make_mesh(data=2, fsdp=2, context=2)
  assert spec(mesh, ("batch", "slots"), (4, 128)) == P(("data", "fsdp"), "context")
  assert spec(mesh, ("batch", "slots"), (2, 128)) == P("data", "context")


def test_abstract_params_name_the_sharding_of_every_parameter():
  config = dataclasses.replace(mesh_flow.CONFIG, vocab_size=97)
  model = tt.Decoder(config, mesh=tt.make_mesh(fsdp=2, tensor=4))
  specs = jax.tree.map(lambda x: tuple(x.sharding.spec), tt.abstract_params(model))
  layers = specs["layers"]
  assert specs["embed"]["embedding"] == (None, "fsdp")  # 97 is not split by 4
  assert layers["attention"]["query"]["kernel"] == (None, "fsdp", "tensor", None)
  assert layers["attention"]["output"]["kernel"] == (None, "tensor", None, "fsdp")
  assert layers["mlp"]["gate"]["kernel"] == (None, "fsdp", "tensor")
  assert layers["mlp"]["down"]["kernel"] == (None, "tensor", "fsdp")
  assert layers["mlp_norm"]["scale"] == (None, None)


@pytest.mark.parametrize(
  "mesh, piece",
  [
    pytest.param(lambda d: tt.make_mesh(data=2, tensor=4), (1, 1, 1, 512, 8), id="data"),
    pytest.param(
      lambda d: Mesh(np.array(d).reshape(4, 2), ("context", "tensor")),
      (1, 2, 2, 128, 8),
      id="own_two_axes",
    ),
    pytest.param(lambda d: Mesh(np.array(d[:2]), ("data",)), (1, 1, 4, 512, 8), id="own_data"),
  ],
)
def test_batch_of_two_on_a_data_axis_and_callers_own_mesh(params, mesh, piece):
  model = tt.Decoder(CONFIG, mesh=mesh(jax.devices()))
  placed = mesh_flow.place(model, params)
  cache, logits = tt.prefill(model, placed, CONTEXTS, capacity=512)
  assert {shard.data.shape for shard in cache.keys.addressable_shards} == {piece}
  scores = tt.score(model, placed, None, cache, CONTEXTS[:, :9])
  expected, expected_logits = tt.prefill(ONE_DEVICE, params, CONTEXTS, capacity=512)
  assert_close(logits, expected_logits)
  assert_close(scores, tt.score(ONE_DEVICE, params, None, expected, CONTEXTS[:, :9]))


def test_mesh_with_explicit_axes_is_refused_with_the_remedy():
  mesh = jax.make_mesh((8,), ("tensor",), axis_types=(AxisType.Explicit,))
  with pytest.raises(tt.UserError, match="Auto axes"):
    tt.abstract_params(tt.Decoder(CONFIG, mesh=mesh))


def adapt_in_shard_map(model, params):
  """Delta [2, ...] and last logits [2, V] of two contexts, each adapted on its own device."""

  @jax.jit
  @functools.partial(
    jax.shard_map,
    mesh=Mesh(np.array(jax.devices()[:2]), ("data",)),
    in_specs=(P(), P("data")),
    out_specs=P("data"),
    check_vma=False,
  )
  def each(params, tokens):
    cache, logits = tt.prefill(model, params, tokens)
    fast, _, _ = tt.adapt(model, params, cache, tokens, jax.random.key(1), TTT)
    return delta(fast)[None], logits

  return each(params, CONTEXTS)


def test_in_a_callers_shard_map_without_mesh(params):
  model = tt.Decoder(CONFIG, mesh=tt.make_mesh(tensor=8)).clone(mesh=None)
  deltas, logits = adapt_in_shard_map(model, params)
  for i in range(2):
    context = CONTEXTS[i : i + 1]
    cache, expected_logits = tt.prefill(ONE_DEVICE, params, context)
    fast, _, _ = tt.adapt(ONE_DEVICE, params, cache, context, jax.random.key(1), TTT)
    assert_close(deltas[i], delta(fast))
    assert_close(logits[i], expected_logits[0])


def test_in_a_callers_shard_map_a_mesh_is_refused_with_the_remedy(params):
  with pytest.raises(tt.UserError, match=r"model\.clone\(mesh=None\)"):
    adapt_in_shard_map(tt.Decoder(CONFIG, mesh=tt.make_mesh(tensor=8)), params)


def test_vmap_of_ttt_step_over_contexts_on_a_mesh(params):
  model = tt.Decoder(CONFIG, mesh=tt.make_mesh(tensor=4, context=2))
  placed = mesh_flow.place(model, params)
  starts = np.array([5, 40], np.int32)
  caches = [tt.prefill(model, placed, CONTEXTS[i : i + 1])[0] for i in range(2)]
  cache = jax.tree.map(lambda *x: jnp.stack(x), *caches)
  fast = jax.tree.map(lambda x: jnp.stack([x, x]), tt.init_fast(model, placed))
  opt_state = jax.vmap(tt.init_optimizer)(fast)
  step = lambda *each: tt.ttt_step(model, placed, *each, TTT)
  fast, _, metrics = jax.vmap(step)(fast, opt_state, cache, CONTEXTS[:, None], starts)
  assert {shard.data.shape for shard in delta(fast).addressable_shards} == {(2, 1, 32, 2, 8)}
  plain = tt.init_fast(ONE_DEVICE, jax.tree.map(jnp.asarray, params))
  for i in range(2):
    context = CONTEXTS[i : i + 1]
    alone, _ = tt.prefill(ONE_DEVICE, params, context, capacity=caches[0].capacity)
    state = tt.init_optimizer(plain)
    expected, _, expected_metrics = tt.ttt_step(
      ONE_DEVICE, params, plain, state, alone, context, starts[i], TTT
    )
    assert metrics.ok[i]
    assert_close(delta(fast)[i], delta(expected))
    assert_close(metrics.loss[i], expected_metrics.loss)
