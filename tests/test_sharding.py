"""On every mesh of eight devices the results equal one device's, and the arrays are split."""

import dataclasses
import sys

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import mesh_flow
import numpy as np
import pytest

import tttjax as tt

MESHES = {
  "tensor8": dict(tensor=8),
  "context8": dict(context=8),
  "tensor2_context4": dict(tensor=2, context=4),
  "fsdp2_tensor2_context2": dict(fsdp=2, tensor=2, context=2),
}
# Specs by the rules: W_Q [L, D, H, d], W_K [L, D, K, d], cache keys [L, B, K, slots, d]. Eight
# tensor shards do not divide the four KV heads, so those are replicated there.
SPECS = {
  "tensor8": (P(None, None, "tensor"), P(), P()),
  "context8": (P(), P(), P(None, None, None, "context")),
  "tensor2_context4": (
    P(None, None, "tensor"),
    P(None, None, "tensor"),
    P(None, None, "tensor", "context"),
  ),
  "fsdp2_tensor2_context2": (
    P(None, "fsdp", "tensor"),
    P(None, "fsdp", "tensor"),
    P(None, "fsdp", "tensor", "context"),
  ),
}


@pytest.fixture(scope="module", autouse=True)
def several_chunks():
  """Prefill in two chunks, longer than a shard of eight and shorter than one of two."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys.modules["tttjax.decode.prefilling"], "_MAX_CHUNK", 256)
    yield


@pytest.fixture(scope="module")
def params():
  return mesh_flow.host_params()


@pytest.fixture(scope="module")
def one_device(params):
  return mesh_flow.run(tt.Decoder(mesh_flow.CONFIG), params)


# tensor2_context4 splits the context too; context alone is behind the marker.
_PARAMS = [
  pytest.param(name, marks=[pytest.mark.slow] if name == "context8" else []) for name in MESHES
]


@pytest.fixture(scope="module", params=_PARAMS)
def on_mesh(request, params):
  """(name, mesh, parameters on it, results)."""
  mesh = tt.make_mesh(**MESHES[request.param])
  model = tt.Decoder(mesh_flow.CONFIG, mesh=mesh)
  placed = mesh_flow.place(model, params)
  return request.param, mesh, placed, mesh_flow.run(model, placed)


def test_results_equal_one_device(on_mesh, one_device):
  results = on_mesh[3]
  np.testing.assert_array_equal(results["tokens"], one_device["tokens"])
  used = [slice(None), slice(None), slice(None), slice(mesh_flow.LENGTHS.min())]
  for name in ("keys", "values"):
    caches = (r["cache"].dealt(1) for r in (results, one_device))
    got, expected = (getattr(cache, name)[tuple(used)] for cache in caches)
    assert mesh_flow.relative_error(got, expected) < 1e-4, name
  for name in set(one_device) - {"cache", "tokens"}:
    errors = jax.tree.map(mesh_flow.relative_error, results[name], one_device[name])
    assert max(jax.tree.leaves(errors)) < 1e-4, (name, errors)


def test_arrays_are_sharded_by_the_rules(on_mesh):
  name, mesh, params, results = on_mesh
  query_spec, key_spec, cache_spec = SPECS[name]
  attention = params["layers"]["attention"]
  adam = results["opt_state"][1]
  delta = lambda tree: tree["layers"]["attention"]["query"]["delta"]
  for array, spec in [
    (attention["query"]["kernel"], query_spec),
    (attention["key"]["kernel"], key_spec),
    (delta(results["fast"]), query_spec),
    (delta(results["step"]), query_spec),
    (delta(adam.mu), query_spec),
    (delta(adam.nu), query_spec),
    (results["cache"].keys, cache_spec),
    (results["cache"].values, cache_spec),
  ]:
    expected = NamedSharding(mesh, spec)
    assert array.sharding.is_equivalent_to(expected, array.ndim), (array.sharding, spec)
    # The data really is in pieces: each device holds shape / mesh axes of it.
    sizes = [1 if axis is None else mesh.shape[axis] for axis in spec]
    sizes += [1] * (array.ndim - len(sizes))
    piece = tuple(dim // size for dim, size in zip(array.shape, sizes))
    assert len(array.addressable_shards) == 8
    assert {shard.data.shape for shard in array.addressable_shards} == {piece}
    distinct = {str(shard.index) for shard in array.addressable_shards}
    assert len(distinct) == np.prod(sizes)


def test_a_state_restored_on_the_mesh_goes_on_as_the_one_that_was_saved(on_mesh, tmp_path):
  _, mesh, params, results = on_mesh
  model = tt.Decoder(mesh_flow.CONFIG, mesh=mesh)
  contexts, _, _ = mesh_flow.numbers()
  state = results["fast"], results["opt_state"]
  tt.save_fast(tmp_path, *state, step=3)
  # A new process knows the state by its initialisation, whose step counts are on one device.
  zero = tt.init_fast(model, params)
  *restored, step = tt.restore_fast(tmp_path, (zero, tt.init_optimizer(zero)))
  assert all(len(x.sharding.device_set) == 8 for x in jax.tree.leaves(restored))
  cache, _ = tt.prefill(model, params, contexts[:1], capacity=mesh_flow.CAPACITY)
  further = [
    tt.adapt(
      model,
      params,
      cache,
      contexts[:1],
      jax.random.key(1),
      dataclasses.replace(mesh_flow.TTT, steps=5),
      None,
      *s,
      first_step=step,
    )[2]
    for s in (state, restored)
  ]
  assert further[0].ok.all()
  jax.tree.map(np.testing.assert_array_equal, *further)
