"""What the attention does to the evidence while answers are produced, and held-out losses."""

from collections.abc import Sequence
import dataclasses

import jax
import numpy as np

from tttjax.decode.scoring import score
from tttjax.mechanism import attention_statistics, held_out_starts, span_losses
from tttjax.models.decoder import Params
from tttjax.session.batches import padded
from tttjax.session.values import Adaptation, Mechanism, ReadContext, Room
from tttjax.sharding import to_host

# The narrowest batch of outputs that is measured, in tokens.
_FEWEST_TOKENS = 128
# Spans whose loss is compared before and after adaptation.
_HELD_OUT_SPANS = 4

Spans = Sequence[tuple[int, int]]


def attention_on_evidence(
  params: Params,
  context: ReadContext,
  fast: Params | None,
  prompts: Sequence[Sequence[int]],
  written: Sequence[Sequence[int]],
  evidence: Sequence[Spans],
  during: str,
  room: Room | None = None,
  losses: tuple[float | None, float | None] = (None, None),
) -> tuple[Mechanism | None, ...]:
  """Mass, margin and lead of each question's evidence while `written` follows its prompt.

  Of a reference answer its log-probability too.

  Args:
    prompts, written: token ids, one of each per question.
    evidence: token spans [start, end) of the context, of each question.
    during: 'reference' or 'output': what `written` is.
    room: what the batch is padded to at least.
    losses: held-out losses before and after adaptation, for the record.

  Returns:
    One per question; None where a number is not finite.
  """
  room = room or Room()
  sequences = [(*prompt, *output) for prompt, output in zip(prompts, written)]
  if during == "output":  # of any length: few widths, so that few programs are compiled
    room = dataclasses.replace(room, tokens=max(room.tokens, _FEWEST_TOKENS))
  tokens, lengths = padded(sequences, room)
  marks = np.zeros((len(tokens), context.cache.capacity), bool)
  for row, places in enumerate(evidence):
    for place in places:
      marks[row, slice(*place)] = True
  arguments = context.model, params, fast, context.cache, tokens, lengths
  statistics = to_host(attention_statistics(*arguments, marks))
  logprobs = to_host(score(*arguments)) if during == "reference" else None
  measured = []
  for row, (prompt, output) in enumerate(zip(prompts, written)):
    first = len(prompt) - 1  # the prompt's last token predicts the output's first one
    steps = slice(first, first + max(len(output), 1))
    mean = lambda x: float(x[row, :, :, steps].mean())
    by_layer = statistics.mass[row, :, :, steps].mean(axis=(1, 2))
    numbers = tuple(mean(x) for x in (statistics.mass, statistics.margin, statistics.lead))
    reference = None
    if logprobs is not None:
      reference = float(logprobs[row, len(prompt) : len(prompt) + len(output)].sum())
    finite = np.isfinite([*numbers, *(x for x in (*losses, reference) if x is not None)]).all()
    mechanism = Mechanism(*numbers, tuple(map(float, by_layer)), during, *losses, reference)
    measured.append(mechanism if finite else None)
  return tuple(measured)


def held_out_losses(
  params: Params, context: ReadContext, fast: Params | None, adaptation: Adaptation, span: int
) -> tuple[float | None, float | None]:
  """Mean loss, nats per token, of spans that were not trained on, with the base weights and `fast`.

  (None, None) where the context has no room for such spans.
  """
  starts = held_out_starts(
    adaptation.start, context.num_tokens, span, _HELD_OUT_SPANS, jax.random.key(0)
  )
  if not len(starts):
    return None, None
  same_shape = np.resize(starts, _HELD_OUT_SPANS)
  losses = (
    to_host(
      span_losses(context.model, params, weights, context.cache, context.tokens, same_shape, span)
    )
    for weights in (None, fast)
  )
  before, after = (float(loss[: len(starts)].mean()) for loss in losses)
  return before, after
