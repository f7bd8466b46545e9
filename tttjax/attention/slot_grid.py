"""The grid of a Pallas TPU kernel over (batch, KV head, row block, slot block).

Rows are queries with GQA folded into them: T*G of a span or a chunk, G of a decoded token. The last
axis is bounded by a traced number, the blocks that the longest row block sees: the cost follows the
true length, not the capacity. Blocks of the stacked cache are picked by the index map, at a traced
layer, so that no layer is ever copied. A row block that sees fewer slots than the longest keeps its
last block for the rest of the grid, which moves no data, and computes nothing there.
"""

from collections.abc import Callable
import dataclasses

import jax
from jax import lax
from jax.experimental import pallas as pl
import jax.numpy as jnp

# Rows that share a block of slots: 512 FLOPs for each byte of it, more than chips do meanwhile.
_MAX_ROWS = 512
# Scores at once, rows x slots: a few float32 arrays of as many have to fit in 16 MB.
_MAX_SCORES = 1 << 19
# For few rows. A step of the grid takes about as long as reading half a megabyte, and a row pays
# for whole blocks.
_MAX_SLOTS = 2048
# Rows are in whole tiles of bfloat16, slots in whole lanes.
_TILE, _LANES = 16, 128


@dataclasses.dataclass(frozen=True)
class Window:
  """What the rows of a row block see of a slot block.

  Attributes:
    start: int32 scalar, first slot of the block.
    first, end: int32 scalars, the slots that any row sees.
    limits: int32 [rows, 1], one past the last visible slot of each row; None: they see all slots
      of the block.
    axis: static, which axis of k and v the slots are.
  """

  start: jax.Array
  first: jax.Array
  end: jax.Array
  limits: jax.Array | None
  axis: int

  def visible(self, scores: jax.Array, otherwise: float) -> jax.Array:
    """[rows, slots] with `otherwise` in the slots that a row does not see."""
    if self.limits is None:
      return scores
    slot = self.start + lax.broadcasted_iota(jnp.int32, scores.shape, 1)
    return jnp.where((slot >= self.first) & (slot < self.limits), scores, otherwise)

  def seen(self, x: jax.Array) -> jax.Array:
    """k or v with 0 in the slots that no row sees, as 0 times NaN is NaN."""
    if self.limits is None:
      return x
    slot = self.start + lax.broadcasted_iota(jnp.int32, x.shape, self.axis)
    return jnp.where((slot >= self.first) & (slot < self.end), x, jnp.zeros_like(x))


@dataclasses.dataclass(frozen=True)
class Kernel:
  """What is computed for each row block; static. All arguments are refs but `window`.

  Attributes:
    outputs: columns of each float32 output [rows, columns], given head_dim.
    scratch: likewise of what is kept from block to block.
    begin: called with (scratch) before the first slot block.
    add: with (rows, k, v, window, scratch) for each that any row sees; k and v are [slots, d], or
      [d, slots] as the window says.
    finish: with (scratch, outputs) after the last; also where no row sees any.
  """

  outputs: Callable[[int], tuple[int, ...]]
  scratch: Callable[[int], tuple[int, ...]]
  begin: Callable[..., None]
  add: Callable[..., None]
  finish: Callable[..., None]


def row_block(rows: int) -> tuple[int, int]:
  """(rows per block, blocks): as few blocks as _MAX_ROWS allows, with as little padding."""
  blocks = -(-rows // _MAX_ROWS)
  return -(-rows // (blocks * _TILE)) * _TILE, blocks


def slot_block(rows: int, slots: int) -> int:
  """Slots per block beside `rows` rows; it divides `slots`, in whole lanes where they are whole."""
  unit = _LANES if slots % _LANES == 0 else 1
  most = min(_MAX_SLOTS, max(_MAX_SCORES // rows, unit), slots)
  return next(block for block in range(most // unit * unit, 0, -unit) if slots % block == 0)


@dataclasses.dataclass(frozen=True)
class Grid:
  """Static sizes of a call, and what its steps read and write.

  Its scalars, which are known before a step begins: the layer of each context; of each batch row
  the first visible slot; of each row block the least and the largest limit. All within the slots.

  Attributes:
    batch: rows of the cache in each context.
    rows, row_blocks: rows per block, and blocks.
    slots: per block.
    dim: head_dim.
  """

  batch: int
  rows: int
  row_blocks: int
  slots: int
  dim: int

  @property
  def axis(self) -> int:
    """Which axis of a block of k or v the slots are: 0 is [slots, d].

    A head_dim that is not in whole lanes is not the last axis of the cache as XLA lays it out. In
    XLA's order nothing is moved; in the other one the call would begin with a copy of the cache.
    """
    return 0 if self.dim % _LANES == 0 else 1

  def blocks(self, first, largest):
    """(first visible, one past the last visible) slot block, of scalars or of arrays."""
    slots = jnp.int32(self.slots)
    return lax.div(first, slots), lax.div(largest + (slots - 1), slots)

  def of_rows(self, columns: int) -> pl.BlockSpec:
    """Of an array [batch, KV head, rows, columns]."""
    shape = None, None, self.rows, columns
    return pl.BlockSpec(shape, lambda i, head, row, step, *_: (i, head, row, 0))

  def of_limits(self) -> pl.BlockSpec:
    """Of int32 [batch, rows, 1]."""
    return pl.BlockSpec((None, self.rows, 1), lambda i, head, row, step, *_: (i, row, 0))

  def of_slots(self, contexts: int) -> pl.BlockSpec:
    """Of a cache [contexts, L, B, K, S, d], or [..., d, S]; it may be one cache for all."""

    def index(i, head, row, step, layer, first, least, largest):
      del least
      context = lax.div(i, jnp.int32(self.batch))
      begin, end = self.blocks(first[i], largest[i * self.row_blocks + row])
      at = jnp.maximum(jnp.minimum(begin + step, end - 1), 0)
      cache = lax.rem(context, jnp.int32(contexts)), layer[context]
      return *cache, lax.rem(i, jnp.int32(self.batch)), head, *((0, at) if self.axis else (at, 0))

    block = (self.dim, self.slots) if self.axis else (self.slots, self.dim)
    return pl.BlockSpec((None,) * 4 + block, index)

  def body(self, kernel: Kernel, inputs: int):
    """The function of one step; `inputs` arrays of rows come before k and v."""

    def step_of(layer, first, least, largest, limits, *refs):
      del layer
      outputs = inputs + 2 + len(kernel.outputs(self.dim))
      *rows, k, v = refs[: inputs + 2]
      outputs, scratch = refs[inputs + 2 : outputs], refs[outputs:]
      i, row, step = (pl.program_id(axis) for axis in (0, 2, 3))
      own = i * self.row_blocks + row
      first, least, largest = first[i], least[own], largest[own]
      start = (self.blocks(first, largest)[0] + step) * self.slots
      whole = (start >= first) & (start + self.slots <= least)

      def add(limits):
        kernel.add(rows, k, v, Window(start, first, largest, limits, self.axis), scratch)

      pl.when(step == 0)(lambda: kernel.begin(scratch))
      pl.when(whole)(lambda: add(None))
      pl.when(~whole & (start < largest))(lambda: add(limits[...]))
      pl.when(step == pl.num_programs(3) - 1)(lambda: kernel.finish(scratch, outputs))

    return step_of
