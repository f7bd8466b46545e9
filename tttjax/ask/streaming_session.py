"""A session that shows answers while they are written, and adapts to a context once."""

from collections.abc import Callable

import jax
import numpy as np

from tttjax import flops
from tttjax.decode.generation import stream
from tttjax.models.fast_weights import has_delta
from tttjax.session import Cost, ReadContext, Session
from tttjax.session.batches import padded
from tttjax.session.cost import timed

_EVERY = 4  # tokens between two looks at what is written


class StreamingSession(Session):
  """As Session; what was adapted to a context is kept for the next question about it.

  Attributes:
    show: called with the text of an answer so far; where it returns False the answer ends there.
      None shows nothing.
    adapted: (what the last adaptation was of, what it gave); None before. Of None it is of
      whatever is asked for: one that was loaded.
  """

  show: Callable[[str], bool] | None = None
  adapted: tuple[tuple | None, tuple] | None = None

  def keep(self, read: ReadContext, capacity: int) -> None:
    """Takes a context that was read before for the one of the last `read`."""
    self._kept = (tuple(read.tokens[0].tolist()), capacity, True, None), read, Cost()

  def adapt(self, context, ttt, key, starts=None):
    """As Session.adapt; the same again costs nothing."""
    place = None if starts is None else tuple(np.asarray(starts).tolist())
    wanted = context.tokens.tobytes(), ttt, jax.random.key_data(key).tobytes(), place
    if self.adapted and self.adapted[0] in (None, wanted):
      fast, adaptation, _ = self.adapted[1]
      return fast, adaptation, Cost()
    self.adapted = wanted, super().adapt(context, ttt, key, starts)
    return self.adapted[1]

  def generate(self, context, fast, prompts, sampling, key, samples=1, beams=0, **how):
    """As Session.generate; a single output is shown as it grows."""
    if self.show is None or len(prompts) > 1 or samples > 1 or beams or how.get("question_before"):
      return super().generate(context, fast, prompts, sampling, key, samples, beams, **how)
    tokens, lengths = padded(self._rows("prompts", prompts), how.get("room"))
    with timed() as clock:
      rows = tokens[:1], lengths[:1]
      for out in stream(
        context.model, self.params, fast, context.cache, rows[0], key, sampling, rows[1], _EVERY
      ):
        ids = np.asarray(out.tokens)[0, : int(out.lengths[0])]
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        if not self.show(text.rstrip("\ufffd")):  # half of a character may follow
          break
    output = self._output(jax.tree.map(np.asarray, out), 0, sampling)
    shape = self.model.config, context.num_tokens, len(prompts[0])
    spent = flops.decode(*shape, len(output.ids), has_delta(fast))
    return ((output,),), clock.phase("generate", own=[spent])
