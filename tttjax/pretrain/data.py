"""Training rows: one bank log, then several questions that do not see each other.

A row of R tokens is [context | question 1 | question 2 | ...]. Every question has its own segment
and the positions that directly follow the context, so each is trained exactly as it is evaluated:
alone after the context. A row carries several, which multiplies the retrieval signal per token.

Positions jump at line starts, so that all positions up to `max_position` are trained while rows
stay short: failing at length is then a matter of competition, not of unseen positions.
"""

import dataclasses
import re
from typing import NamedTuple

import numpy as np

from tttjax.pretrain import logs
from tttjax.tasks import prompt
from tttjax.tasks.synthetic import bank_log
from tttjax.tasks.thinking_format import SECTION

# Target weights. What cannot be predicted (ids, accounts, amounts) teaches only noise.
ANSWER, PREDICTABLE, UNPREDICTABLE, QUESTION = 2.0, 1.0, 0.1, 0.05
_MAX_WALK = 3  # updates of the asked account that a thought walks through
SHORTEST_WITH_ANOMALY = 120  # tokens of context
_PIECE = re.compile(r"\n|[0-9]{2}| ?[A-Za-z_]+|.")
# Seeds below are for evaluation; training never sees them.
FIRST_TRAINING_SEED = 1 << 40


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage of the curriculum.

  Attributes:
    context: longest context in tokens; the shortest is half of it.
    row: length of a row in tokens, context and questions.
    batch: rows per step.
    share: share of the run's steps.
    anomaly: share of rows whose log has an anomaly, which is asked for.
    thinking: share of balance questions answered after thinking.
    amount: share of amount questions.
  """

  context: int
  row: int
  batch: int
  share: float
  anomaly: float
  thinking: float
  amount: float


class Batch(NamedTuple):
  """Arrays [B, R]: tokens, positions, segments int32; weights float32, of each token as a target.

  Segment 0 is the context, 1, 2, ... the questions, -1 padding.
  """

  tokens: np.ndarray
  positions: np.ndarray
  segments: np.ndarray
  weights: np.ndarray


class Encoder:
  """Token ids of log text by table look-up: equal to the tokenizer, and much faster."""

  def __init__(self, tokenizer):
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    self._ids = {tokenizer.decode([i]): i for i in range(len(tokenizer))}
    rendered = prompt.render(tokenizer, bank_log.HEADER, prompt.headed(""))
    self.head = ids(rendered.context)
    self.question = ids(f"{prompt.QUESTION_HEADER}")
    tail = lambda text: ids(text)[len(ids(f"{prompt.QUESTION_HEADER} ")) :]
    self.plain_tail, self.thinking_tail = tail(rendered.text), tail(rendered.thinking_text)
    self.forced_stop = ids(SECTION.forced_stop)
    self.end_thinking = ids(SECTION.end)
    self.gap = ids("\n\n")
    self.end = ids("<|im_end|>")

  def __call__(self, text: str) -> list[int]:
    return [self._ids[piece] for piece in _PIECE.findall(text)]


def line_weights(line: logs.Line, pieces: list[str]) -> list[float]:
  """Weight of each token of a line: balances of a transfer are predictable, nothing else is."""
  if not line.operation.transaction:
    return [UNPREDICTABLE] * len(pieces)
  weights, inside = [], False
  for piece in pieces:
    inside = inside and piece[0] not in " \n"
    weights.append(PREDICTABLE if inside else UNPREDICTABLE)
    inside = inside or piece == "="
  return weights


class Row:
  """Collects the tokens of one row."""

  def __init__(self):
    self.tokens, self.weights, self.segments, self.positions = [], [], [], []

  def add(self, tokens, weights, segment, position):
    self.tokens += tokens
    self.weights += weights
    self.segments += [segment] * len(tokens)
    self.positions += range(position, position + len(tokens))


def jumps(rng, lines: int, room: int) -> np.ndarray:
  """Non-negative extra positions in front of each of `lines` lines, at most `room` in all."""
  mode = rng.random()
  if mode < 0.3 or room <= 0:
    return np.zeros(lines, np.int64)
  total = room * rng.random() if mode < 0.65 else np.exp(rng.random() * np.log(room))
  # From a few large jumps to an even stretch.
  shape = (0.1, 1.0, 10.0)[rng.integers(3)]
  parts = rng.gamma(shape, size=lines) + 1e-9
  return np.floor(total * parts / parts.sum()).astype(np.int64)


class Generator:
  """Endless training batches; batch i depends on (seed, i) only, so a run can resume anywhere."""

  def __init__(self, tokenizer, seed: int, max_position: int):
    self._encode = Encoder(tokenizer)
    self._seed = seed
    self._max_position = max_position

  def _thought(self, rng, lines, account: str) -> tuple[list[int], list[float]]:
    """A walk through the last updates of the account, the newest first.

    One in three thoughts is cut by the forced stop at a random token, so that a thinking budget
    is something the model has seen.
    """
    encode = self._encode
    entries = [e for line in lines for e in line.operation.entries if e.account == account]
    tokens = [
      i
      for entry in entries[: -_MAX_WALK - 1 : -1]
      for i in encode(f" {bank_log.entry_text(entry)}\n")
    ]
    weights = [PREDICTABLE] * len(tokens)
    if rng.random() < 1 / 3:
      cut = int(rng.integers(len(tokens) + 1))
      tokens = tokens[:cut] + encode.forced_stop
      weights = weights[:cut] + [0.0] * len(encode.forced_stop)
    else:
      tokens += encode.end_thinking
      weights += [PREDICTABLE]
    return tokens + encode.gap, weights + [PREDICTABLE] * len(encode.gap)

  def _question(self, rng, lines, stage: Stage, kind: str) -> tuple[list[int], list[float]] | None:
    """Tokens and weights of one question with its answer."""
    encode = self._encode
    asked = logs.ask(lines, rng, kind)
    if asked is None:
      return None
    text, answer, subject = asked
    tokens = encode.question + encode(" " + text)
    thinks = kind == "balance" and rng.random() < stage.thinking
    tokens = tokens + (encode.thinking_tail if thinks else encode.plain_tail)
    # The first token follows the context, but stands after another question in the row.
    weights = [0.0] + [QUESTION] * (len(tokens) - 1)
    if thinks:
      thought, thought_weights = self._thought(rng, lines, subject)
      tokens, weights = tokens + thought, weights + thought_weights
    answer = encode(answer)
    return (tokens + answer + encode.end, weights + [ANSWER] * len(answer) + [PREDICTABLE])

  def row(self, seed: int, stage: Stage) -> Row:
    """One log with as many questions as fit."""
    rng = np.random.default_rng((seed, 3))
    encode, row = self._encode, Row()
    has_anomaly = rng.random() < stage.anomaly
    shortest = max(stage.context // 2, SHORTEST_WITH_ANOMALY if has_anomaly else 0)
    room = int(rng.integers(shortest, stage.context + 1)) - len(encode.head)
    lines, size = logs.write_log(seed, room, lambda text: len(_PIECE.findall(text)), has_anomaly)
    row.add(encode.head, [0.0] * len(encode.head), 0, 0)
    position = len(encode.head)
    spare = self._max_position - position - size - stage.row
    for line, jump in zip(lines, jumps(rng, len(lines), spare)):
      position += int(jump)
      tokens = encode(line.text)
      row.add(tokens, line_weights(line, _PIECE.findall(line.text)), 0, position)
      position += len(tokens)
    segment = 1
    kinds = ["anomaly"] if has_anomaly else []
    while True:
      kind = kinds.pop() if kinds else ("amount" if rng.random() < stage.amount else "balance")
      question = self._question(rng, lines, stage, kind)
      if question is not None:
        if len(row.tokens) + len(question[0]) > stage.row:
          return row
        row.add(*question, segment, position)
        segment += 1

  def batch(self, step: int, stage: Stage) -> Batch:
    shape = (stage.batch, stage.row)
    out = Batch(
      np.zeros(shape, np.int32),
      np.zeros(shape, np.int32),
      np.full(shape, -1, np.int32),
      np.zeros(shape, np.float32),
    )
    for b in range(stage.batch):
      row = self.row(FIRST_TRAINING_SEED * (self._seed + 1) + step * stage.batch + b, stage)
      n = len(row.tokens)
      out.tokens[b, :n] = row.tokens
      out.positions[b, :n] = row.positions
      out.segments[b, :n] = row.segments
      out.weights[b, :n] = row.weights
    return out
