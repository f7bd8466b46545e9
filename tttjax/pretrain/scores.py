"""What a trained model reached: accuracy by question, length, thinking budget and stretch.

python -m tttjax.pretrain.scores --checkpoint=DIR --out=scores.csv

Greedy decoding after one prefill per context, on held-out logs. The standard error is clustered
over contexts, because the questions about one context are not independent.
"""

import csv
import dataclasses
import pathlib

from absl import flags
import jax
import numpy as np

import tttjax as tt
from tttjax import flags as command_line
from tttjax.pretrain.evaluate import FIRST_SEED
from tttjax.tasks.synthetic.bank_log import FORCED_STOP, BankLog

_CHECKPOINT = flags.DEFINE_string("checkpoint", str(tt.EMBEDDED), "checkpoint directory")
_OUT = flags.DEFINE_string("out", "scores.csv", "file to write")
_CONTEXTS = flags.DEFINE_integer(
  "contexts", 24, "contexts per row of the table; half as many beyond 1024 tokens", lower_bound=2
)

_QUESTIONS = 8
_PROMPT_TOKENS, _ANSWER_TOKENS = 32, 12


@dataclasses.dataclass(frozen=True)
class Setting:
  """One row of the table.

  Attributes:
    kind: what is asked.
    context: tokens of context.
    thinking: thinking budget in tokens, None to answer at once.
    stretch: span of positions the context is stretched over, None for its own length.
  """

  kind: str
  context: int
  thinking: int | None = None
  stretch: int | None = None


def settings() -> list[Setting]:
  """The rows: every kind by length, thinking by length and by budget, the stretch control."""
  table = [Setting("balance", t) for t in (128, 256, 384, 512, 1024, 2048, 4096)]
  table += [Setting("balance", 256, stretch=s) for s in (2048, 8192, 16000)]
  table += [Setting("balance", t, thinking=96) for t in (128, 256, 384, 512, 1024, 2048)]
  table += [Setting("balance", 512, thinking=m) for m in (0, 6, 12, 24, 48)]
  table += [Setting("amount", t) for t in (128, 256, 384, 512, 1024, 2048)]
  return table + [Setting("anomaly", t) for t in (160, 256, 384, 512)]


class Scorer:
  """Answers held-out questions with one model."""

  def __init__(self, checkpoint):
    self.model, self.params = tt.from_pretrained(checkpoint)
    self.tokenizer = tt.load_tokenizer(checkpoint)

  def _ids(self, text: str) -> list[int]:
    return self.tokenizer(text, add_special_tokens=False)["input_ids"]

  def _sampling(self, budget: int | None) -> tt.SamplingConfig:
    stop = (self.tokenizer.eos_token_id,)
    if budget is None:
      return tt.SamplingConfig(max_new_tokens=_ANSWER_TOKENS, stop_ids=stop)
    forced = tuple(self._ids(FORCED_STOP))
    return tt.SamplingConfig(
      max_new_tokens=budget + len(forced) + _ANSWER_TOKENS,
      stop_ids=stop,
      thinking_budget=budget,
      forced_stop_ids=forced,
      end_think_id=forced[-1],
      max_answer_tokens=_ANSWER_TOKENS,
    )

  def hits(self, setting: Setting, seed: int) -> list[bool]:
    """Whether each question of one context is answered right."""
    task = BankLog(setting.kind, needles=_QUESTIONS)
    example = task.at(seed, setting.context, self.tokenizer, in_tokens=True)
    # Fixed shapes, so that the rows of the table share programs.
    width = max(512, setting.context)
    tokens = np.zeros((1, width), np.int32)
    tokens[0, : example.num_tokens] = self._ids(example.context)
    positions = np.arange(width, dtype=np.int32)
    if setting.stretch:
      positions[: example.num_tokens] = example.stretched_positions(setting.stretch)
      positions[example.num_tokens :] = setting.stretch + np.arange(width - example.num_tokens)
    cache, _ = tt.prefill(
      self.model, self.params, tokens, np.array([example.num_tokens]), positions=positions[None]
    )
    asked = [
      question.text if setting.thinking is None else question.thinking_text
      for question in example.questions
    ]
    prompts = np.zeros((_QUESTIONS, _PROMPT_TOKENS), np.int32)
    lengths = np.ones(_QUESTIONS, np.int32)
    for i, text in enumerate(asked):
      ids = self._ids(text)
      prompts[i, : len(ids)], lengths[i] = ids, len(ids)
    result = tt.generate(
      self.model,
      self.params,
      None,
      cache,
      prompts,
      jax.random.key(0),
      self._sampling(setting.thinking),
      lengths,
    )
    out, sizes, thoughts = map(np.asarray, (result.tokens, result.lengths, result.thinking_lengths))
    return [
      task.score(self.tokenizer.decode(out[i, thoughts[i] : sizes[i]]), question)["acc"] == 1
      for i, question in enumerate(example.questions)
    ]


def accuracy(clusters: list[list[bool]]) -> tuple[float, float]:
  """(mean over all questions, its standard error clustered over contexts)."""
  sizes = np.array([len(hits) for hits in clusters])
  sums = np.array([sum(hits) for hits in clusters])
  mean = sums.sum() / sizes.sum()
  n = len(clusters)
  variance = n / max(1, n - 1) * np.sum((sums - mean * sizes) ** 2) / sizes.sum() ** 2
  return float(mean), float(np.sqrt(variance))


def main():
  scorer = Scorer(_CHECKPOINT.value)
  path = pathlib.Path(_OUT.value)
  with path.open("w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(
      [field.name for field in dataclasses.fields(Setting)]
      + ["contexts", "questions", "accuracy", "standard_error"]
    )
    for setting in settings():
      contexts = _CONTEXTS.value // (2 if setting.context > 1024 else 1)
      contexts *= _QUESTIONS if setting.kind == "anomaly" else 1
      clusters = [scorer.hits(setting, FIRST_SEED + i) for i in range(contexts)]
      mean, error = accuracy(clusters)
      row = [
        *dataclasses.astuple(setting),
        len(clusters),
        sum(map(len, clusters)),
        f"{mean:.4f}",
        f"{error:.4f}",
      ]
      writer.writerow(["" if value is None else value for value in row])
      file.flush()
      print(*row, flush=True)


if __name__ == "__main__":
  command_line.run(main)
