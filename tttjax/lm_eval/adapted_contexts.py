"""Contexts that are read once, adapted to once, and then asked any number of requests."""

import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from tttjax.models.decoder import Params
from tttjax.session import ReadContext, Session
from tttjax.strategies import Strategy
from tttjax.strategies.adapting import Adapting
from tttjax.ttt.hyperparameters import TTTConfig

Ids = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Adapted:
  """A context that requests go on from.

  Attributes:
    read: the context; of no tokens where there is none.
    fast: its fast weights; None is the base model.
    reason: why the strategy did not adapt to it; None where it did, or never does.
  """

  read: ReadContext
  fast: Params | None
  reason: str | None = None


class AdaptedContexts:
  """What a strategy makes of contexts; that of the last call is kept.

  Attributes:
    session: the model.
    strategy: in_context or qttt.
    ttt: the steps of qttt.
    root: random key; the spans of a context follow from it and the context's tokens alone.
  """

  def __init__(self, session: Session, strategy: Strategy, ttt: TTTConfig, root: jax.Array):
    self.session = session
    self.strategy = strategy
    self.ttt = ttt
    self.root = root
    self._kept: tuple[Ids, Adapted] | None = None

  def of(self, ids: Ids) -> Adapted:
    """The context of these tokens, of which there may be none."""
    if self._kept is None or self._kept[0] != ids:
      self._kept = None  # frees the last one before the next is made
      self._kept = ids, self._made(ids)
    return self._kept[1]

  def key(self, ids: Ids) -> jax.Array:
    """The context's random key, the same in whichever order contexts come."""
    return jax.random.fold_in(self.root, np.uint32(zlib.crc32(np.array(ids, np.int32).tobytes())))

  def _made(self, ids: Ids) -> Adapted:
    adapts = isinstance(self.strategy, Adapting)
    short = f"a context of fewer than span + 1 = {self.ttt.span + 1} tokens" if adapts else None
    if not ids:
      read, _ = self.session.read((0,), rope=self.strategy.rope)
      return Adapted(_emptied(read), None, short)
    read, _ = self.session.read(ids, rope=self.strategy.rope)
    if not adapts or not self.ttt.steps:
      return Adapted(read, None)
    if len(ids) <= self.ttt.span:
      return Adapted(read, None, short)
    fast, adaptation, _ = self.session.adapt(read, self.ttt, self.key(ids))
    return Adapted(read, fast, adaptation.fallback)


def _emptied(read: ReadContext) -> ReadContext:
  """The same without any token: what follows begins at position 0."""
  cache = read.cache.replace(
    lengths=jnp.zeros_like(read.cache.lengths), positions=jnp.full_like(read.cache.positions, -1)
  )
  return dataclasses.replace(read, cache=cache, tokens=read.tokens[:, :0])
