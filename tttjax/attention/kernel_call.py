"""Running a Pallas TPU kernel: of one context or, under vmap, of several in one call."""

import functools

import jax
from jax import lax
from jax.custom_batching import custom_vmap
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from tttjax.attention.slot_grid import Grid, Kernel, row_block, slot_block


@functools.cache
def over_contexts(kernel: Kernel):
  """The kernel as a function of N contexts; under vmap of more of them, and still one call.

  Pallas itself would loop over contexts whose lengths differ, and copy the cache of each.

  Returns:
    Function of layer [N], first [N, B], limits [N, B, R], keys and values [N, L, B, K, S, d], where
    N may be 1 for all, and a list of rows [N, B, K, R, x]; it returns a list of float32 outputs
    [N, B, K, R, columns].
  """

  @custom_vmap
  def run(layer, first, limits, keys, values, rows):
    return _run(kernel, layer, first, limits, keys, values, rows)

  @run.def_vmap
  def _(size, batched, layer, first, limits, keys, values, rows):
    n = layer.shape[batched[0]]

    def joined(x, is_batched):
      x = x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
      return x.reshape(size * n, *x.shape[2:])

    def joined_cache(x, is_batched):
      if not is_batched:
        return x  # read by every context: the index map begins again
      return joined(jnp.broadcast_to(x, (size, n, *x.shape[2:])), True)

    layer, first, limits, rows = jax.tree.map(
      joined, (layer, first, limits, rows), (*batched[:3], batched[5])
    )
    keys, values = map(joined_cache, (keys, values), batched[3:5])
    outputs = run(layer, first, limits, keys, values, rows)
    return [x.reshape(size, n, *x.shape[1:]) for x in outputs], [True] * len(outputs)

  return run


def _run(kernel, layer, first, limits, keys, values, rows):
  """The call, compiled for a TPU and interpreted on other platforms."""
  n, b, k, r, _ = rows[0].shape
  s, d = keys.shape[4:]
  size, blocks = row_block(r)
  grid = Grid(b, size, blocks, slot_block(size, s), d)

  def padded(x, mode):
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, size * blocks - r), (0, 0)], mode=mode)

  rows = [padded(x.reshape(n * b, k, r, -1), "constant") for x in rows]
  # Rows that pad see what the last one does, so that they make no slot block a partial one.
  limits = padded(limits.reshape(n * b, r, 1), "edge")
  if grid.axis:
    keys, values = (x.swapaxes(-1, -2) for x in (keys, values))
  first = jnp.clip(first.reshape(n * b), 0, s)
  by_block = jnp.clip(limits, 0, s).reshape(n * b * blocks, size)
  least, largest = by_block.min(1), by_block.max(1)
  begin, end = grid.blocks(jnp.repeat(first, blocks), largest)
  # At least one step, which writes the outputs of rows that see no slot.
  steps = jnp.maximum((end - begin).max(), 1)
  columns, kept = kernel.outputs(d), kernel.scratch(d)
  call = functools.partial(
    pl.pallas_call,
    grid.body(kernel, len(rows)),
    out_shape=[jax.ShapeDtypeStruct((n * b, k, size * blocks, x), jnp.float32) for x in columns],
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=4,
      grid=(n * b, k, blocks, steps),
      in_specs=[
        grid.of_limits(),
        *(grid.of_rows(x.shape[-1]) for x in rows),
        *(grid.of_slots(x.shape[0]) for x in (keys, values)),
      ],
      out_specs=[grid.of_rows(x) for x in columns],
      scratch_shapes=[pltpu.VMEM((size, x), jnp.float32) for x in kept],
    ),
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel", "parallel", "arbitrary")
    ),
  )
  scalars = layer, first, least, largest
  compiled, interpreted = call(interpret=False), call(interpret=True)
  outputs = lax.platform_dependent(
    *scalars, limits, *rows, keys, values, tpu=compiled, default=interpreted
  )
  return [x[:, :, :r].reshape(n, b, k, r, -1) for x in outputs]
