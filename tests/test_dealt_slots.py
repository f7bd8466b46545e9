"""Slots dealt out over a context axis: each has one place, and all devices have their share."""

import jax
import jax.numpy as jnp
import mesh_flow
import numpy as np
import pytest

from tests.errors import user_error
import tttjax as tt
from tttjax.attention.caches import write_slots
from tttjax.attention.dealt_slots import TILE, dealt_order, places_before, slot_at


@pytest.mark.parametrize("shards, places", [(1, 256), (2, 128), (3, 384), (8, 256), (4, 40)])
def test_every_slot_has_one_place(shards, places):
  order = dealt_order(shards * places, shards)
  assert sorted(order) == list(range(shards * places))
  for shard in range(shards):
    own = order[shard * places : (shard + 1) * places]
    assert (np.diff(own) > 0).all()  # the slots below a limit are a device's first places
    np.testing.assert_array_equal(slot_at(np.arange(places), shard, shards, places), own)


@pytest.mark.parametrize("shards, places", [(1, 256), (2, 128), (3, 384), (8, 256)])
def test_windows_in_places_are_those_in_slots(shards, places):
  capacity = shards * places
  order = dealt_order(capacity, shards).reshape(shards, places)
  limits = np.r_[-2000, -129, -1, np.arange(capacity + 2), capacity + 5000, 2**31 - 1]
  for shard in range(shards):
    found = places_before(jnp.asarray(limits, jnp.int32), shard, shards, places)
    expected = (order[shard][None] < limits[:, None]).sum(1)
    # Beyond what it has, and below nothing, any number does.
    np.testing.assert_array_equal(np.clip(found, 0, places), expected)
    inside = (limits >= 0) & (limits <= capacity)
    np.testing.assert_array_equal(np.asarray(found)[inside], expected[inside])


@pytest.mark.parametrize("length", [900, 5000, 16_384])
def test_all_devices_have_their_share_of_what_any_query_sees(length):
  shards, capacity = 8, 16_384
  seen = [int(places_before(jnp.int32(length), c, shards, capacity // shards)) for c in range(8)]
  assert sum(seen) == length and max(seen) - min(seen) <= TILE


def prefilled(mesh, capacity=512):
  model = tt.Decoder(mesh_flow.CONFIG, mesh=mesh)
  params = mesh_flow.place(model, mesh_flow.host_params()) if mesh else mesh_flow.host_params()
  return model, params, tt.prefill(model, params, mesh_flow.numbers()[0], capacity=capacity)[0]


def test_a_cache_is_dealt_out_anew_for_another_mesh():
  model, params, cache = prefilled(None)
  on_two = prefilled(tt.make_mesh(context=2, devices=jax.devices()[:2]))[2]
  assert (cache.shards, on_two.shards) == (1, 2)
  used = lambda c: np.asarray(c.keys[..., : mesh_flow.LENGTHS.min(), :])
  back = on_two.dealt(1)
  assert mesh_flow.relative_error(used(back), used(cache)) < 1e-4
  assert mesh_flow.relative_error(used(on_two), used(cache)) > 0.1
  np.testing.assert_array_equal(cache.dealt(4).dealt(2).dealt(1).keys, cache.keys)
  host = jax.tree.map(np.asarray, back)
  tokens = mesh_flow.numbers()[0][:, :9]
  scores = [tt.score(model, params, None, c, tokens) for c in (host, cache)]
  assert mesh_flow.relative_error(*scores) < 1e-4
  with user_error("capacity 512 is not a multiple of 384"):
    cache.dealt(3)


def test_a_cache_of_another_mesh_is_refused():
  model, params, _ = prefilled(None)
  cache = prefilled(tt.make_mesh(context=2, devices=jax.devices()[:2]))[2]
  with user_error("context axis of 2 devices, this model's has 1", "cache.dealt(1)"):
    tt.score(model, params, None, cache, np.zeros((2, 3), np.int32))


@pytest.mark.parametrize("offset, tokens", [(0, 512), (100, 300), (300, 1), (511, 513), (1000, 24)])
def test_new_slots_are_written_where_they_belong(offset, tokens, rng):
  mesh = tt.make_mesh(context=4, devices=jax.devices()[:4])
  cache = rng.normal(size=(2, 1, 2, 1024, 4)).astype(np.float32)
  new = rng.normal(size=(1, 2, tokens, 4)).astype(np.float32)
  expected = cache.copy()
  expected[1, :, :, offset : offset + tokens] = new
  order = dealt_order(1024, 4)
  write = jax.jit(lambda c, n, o: write_slots(c, n, jnp.int32(1), o, mesh))
  got = np.asarray(write(cache[:, :, :, order], new, jnp.int32(offset)))
  np.testing.assert_array_equal(got[:, :, :, np.argsort(order)], expected)
