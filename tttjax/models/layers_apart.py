"""Each layer's weights as arrays of their own, which share the memory of the stacked ones.

A scan over stacked weights copies a layer's out of the stack before XLA's CPU backend multiplies
them. Where one token is decoded at a time, which reads every weight once, the copies take as long
as the products. Layers apart need none, and a program with them holds each layer's code: it
compiles longer.
"""

import jax
import numpy as np

from tttjax.checks import is_concrete

# A layer's tensor up to this may be copied: norms' scales, where they are not aligned.
_SMALL = 1 << 16
# New tokens; a few are decoded before the longer program is compiled.
_WORTH = 16


def apart_for(new_tokens: int, *trees):
  """The trees `apart` where so many tokens are worth a program that takes longer to compile."""
  return apart(*trees) if new_tokens >= _WORTH else trees


def apart(*trees):
  """Parameters and fast weights with a tuple of each layer's in place of the stacked ones.

  Args:
    trees: with tensors [L, ...] under 'layers'; or None, which stays.

  Returns:
    As many; the trees themselves where the layers of one cannot be taken apart without a copy:
    traced values, several devices, any platform but CPU.
  """
  taken = []
  for tree in trees:
    layers = None if tree is None else _layers(tree["layers"])
    if tree is not None and layers is None:
      return trees
    taken.append(tree and tree | {"layers": layers})
  return tuple(taken)


def _layers(stacked) -> tuple | None:
  """A tree of each layer's tensors, in the memory of the stacked ones; None where it cannot be."""
  leaves, structure = jax.tree.flatten(stacked)
  if not all(map(_in_host_memory, leaves)):
    return None
  columns = [_views(x) for x in leaves]
  if not all(columns):
    return None
  return tuple(jax.tree.unflatten(structure, row) for row in zip(*columns))


def is_apart(tree) -> bool:
  """Whether `apart` took its layers apart."""
  return isinstance(tree["layers"], tuple)


def _in_host_memory(x) -> bool:
  return (
    isinstance(x, jax.Array)
    and is_concrete(x)
    and x.is_fully_addressable
    and len(x.devices()) == 1
    and next(iter(x.devices())).platform == "cpu"
  )


def _views(x: jax.Array) -> list[jax.Array] | None:
  """x[0], x[1], ... in x's own memory; None where that is not to be had."""
  rows = np.asarray(x)
  (device,) = x.devices()
  with jax.ensure_compile_time_eval():  # also where a caller's jit closes over the weights
    views = [jax.device_put(row, device, may_alias=True) for row in rows]
  shared = views[-1].unsafe_buffer_pointer() == x.unsafe_buffer_pointer() + rows[:-1].nbytes
  return views if shared or rows[0].nbytes <= _SMALL else None
