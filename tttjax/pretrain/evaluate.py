"""Accuracy on held-out logs while training, without a cache: one masked forward pass per batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tttjax.pretrain.train import Segments
from tttjax.tasks.synthetic.bank_log import BankLog

# Logs with seeds from here on are apart from training and from the experiments' first 10,000.
FIRST_SEED = 10_000
# Tokens that a question with its answer takes at most; every kind then compiles to one shape.
_QUESTION_TOKENS = 32


@functools.partial(jax.jit, static_argnums=0)
def _predict(model, params, tokens, positions, segments):
  """The most likely next token at every place, int32 [B, T]."""
  hidden, _ = model.apply(
    {"params": params}, tokens, positions, Segments(segments), method="hidden"
  )
  return model.apply({"params": params}, hidden, method="logits").argmax(-1).astype(jnp.int32)


def held_out(tokenizer, kind: str, context: int, seeds, num_questions: int):
  """Rows of held-out examples in the layout of training, positions without jumps.

  Returns:
    (tokens, positions, segments, answers): int32 [B, R]; answers is the question number where a
    token belongs to a reference answer, else 0.
  """
  ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
  rows = []
  for seed in seeds:
    example = BankLog(kind, needles=num_questions).at(seed, context, tokenizer, in_tokens=True)
    head = ids(example.context)
    row = [(token, i, 0, 0) for i, token in enumerate(head)]
    for number, question in enumerate(example.questions, 1):
      suffix, answer = ids(question.text), ids(question.references[0])
      for i, token in enumerate(suffix + answer):
        row.append((token, len(head) + i, number, number if i >= len(suffix) else 0))
    rows.append(row)
  width = context + num_questions * _QUESTION_TOKENS
  padding = (0, 0, -1, 0)
  packed = np.array([row + [padding] * (width - len(row)) for row in rows], np.int32)
  return tuple(packed[..., i] for i in range(4))


def accuracy(model, params, rows) -> float:
  """Share of questions whose whole answer is the most likely one, token by token.

  The answers' own tokens are given (teacher forcing); an answer counts when every token is right,
  so this equals greedy decoding's exact match.
  """
  tokens, positions, segments, answers = rows
  predicted = np.asarray(_predict(model, params, tokens, positions, segments))
  right = predicted[:, :-1] == tokens[:, 1:]
  answers = answers[:, 1:]
  scores = [
    right[b][answers[b] == n].all()
    for b in range(len(tokens))
    for n in range(1, answers[b].max() + 1)
  ]
  return float(np.mean(scores))
