"""How slots are dealt out over the context axis: in tiles, one to each device in turn.

In the order of the slots, the first devices would hold the start of the context and the last ones
its end, or nothing: of a prefill, a span or a token some would do all the work and some none. Dealt
out, every device holds its share of any part of the context. A device's places are in the order of
their slots, so that the slots below a limit are its first places: attention within a device knows
nothing of this but where its own window ends.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Slots of a tile.
TILE = 128


def tile_size(places: int) -> int:
  """Slots dealt at a time to devices with so many places each."""
  return TILE if places % TILE == 0 else places


def places_before(slot, shard, shards: int, places: int) -> jax.Array:
  """How many of a device's places hold slots before `slot`: where that slot is, or would be.

  Args:
    slot: int32 of any shape and value.
    shard: int32 scalar, which of the devices.
    shards: how many there are, static.
    places: of each, static.
  """
  tile = tile_size(places)
  turn = slot // (tile * shards)
  rest = slot - turn * (tile * shards)
  return turn * tile + jnp.clip(rest - shard * tile, 0, tile)


def slot_at(place, shard, shards: int, places: int):
  """The slot in a device's place; the inverse of `places_before` for the device's own."""
  tile = tile_size(places)
  return (place // tile * shards + shard) * tile + place % tile


def dealt_order(capacity: int, shards: int) -> np.ndarray:
  """int [capacity]: the slot that lies at each index of an array whose slots are dealt out."""
  places = capacity // shards
  shard, place = np.divmod(np.arange(capacity), places)
  return slot_at(place, shard, shards, places)
