"""A cell: what is said of one run, model, task, strategy and length, all seeds together."""

import dataclasses
import math

from tttjax.report.labels import is_reference, strategy_label, task_label
from tttjax.report.statistics import Estimate, PairedDifference
from tttjax.tasks.metrics import headline_of


@dataclasses.dataclass(frozen=True)
class Budget:
  """What a cell's strategy was given, means over rows (matched budgets differ by context).

  Attributes:
    steps, span, learning_rate: N, k and the rate of test-time training.
    thinking_tokens: per sample.
    samples: of self-consistency, beams of beam search.
    flops: model FLOPs given after the prefill.
  """

  steps: float
  span: float
  learning_rate: float
  thinking_tokens: float
  samples: float
  flops: float


@dataclasses.dataclass(frozen=True)
class Cell:
  """One strategy at one length. FLOPs and tokens are means per question, seconds per context.

  Examples that failed count as wrong in `metrics` and `slices` and are left out of every cost.

  Attributes:
    run, model, task, strategy, length: which cell.
    family, options: of the strategy.
    task_family, task_options: of the task.
    context_tokens: mean number of tokens of a context.
    metrics: the task's, the primary one first, clustered by (seed, context).
    corpus: the combinations of tasks.metrics, with bootstrap errors.
    chance: mean primary score of guessing; nan where it is not known of every question.
    slices: the primary metric by slice and value, such as slices['anomaly']['CALC_ERROR'].
    slice_gains: `gain` of the same parts.
    kept: mean share of the source that the contexts have; below 1 where documents were cut.
    gain: primary metric minus the reference's on the same questions; None for the reference
      itself, and where it answered none of them.
    mcnemar_p: exact McNemar test of the gain; None where a context has several questions, or
      the metric other values than 0 and 1.
    corpus_gain: the differences of `corpus` from the reference, by swaps within contexts.
    flops: model FLOPs of a question that is charged its context's prefill and adaptation.
    amortised_flops: the same with these two shared by the context's questions.
    phase_flops: `flops` by phase.
    budget: what was given.
    seconds: by phase, of all questions of a context together; median over contexts in which
      nothing was compiled. {} where no context has such a measurement.
    compiling: whether that is because something was compiled in every context.
    tokens: generated, all samples together.
    thinking_tokens: per sample.
    truncated: share of all samples that were cut off at the longest output; nan where unknown.
    unclosed: share of all thoughts that the model did not close; nan where unknown or none.
    mechanism: of measures.MECHANISM, those measured; and 'heldout_change', the loss after minus
      before.
    mechanism_gain: paired differences from the reference strategy, of mass, margin, lead and the
      reference answer's log-probability.
    mass_by_layer: mean attention mass on the evidence of each layer; () where not measured.
    failures: rows with an error.
    fallbacks: rows answered with the base weights because the adaptation was not finite.
  """

  run: str
  model: str
  task: str
  strategy: str
  family: str
  options: dict[str, str]
  task_family: str
  task_options: dict[str, str]
  length: int
  context_tokens: float
  metrics: dict[str, Estimate]
  corpus: dict[str, Estimate]
  chance: float
  slices: dict[str, dict[str, Estimate]]
  slice_gains: dict[str, dict[str, PairedDifference]]
  kept: float
  gain: PairedDifference | None
  mcnemar_p: float | None
  corpus_gain: dict[str, PairedDifference]
  flops: float
  amortised_flops: float
  phase_flops: dict[str, float]
  budget: Budget
  seconds: dict[str, float]
  compiling: bool
  tokens: float
  thinking_tokens: float
  truncated: float
  unclosed: float
  mechanism: dict[str, Estimate]
  mechanism_gain: dict[str, PairedDifference]
  mass_by_layer: tuple[float, ...]
  failures: int
  fallbacks: int

  @property
  def metric(self) -> str:
    """The name of the primary metric."""
    return next(iter(self.metrics))

  @property
  def score(self) -> Estimate:
    """The primary metric: what figures and comparisons show."""
    return self.metrics[self.metric]

  @property
  def headline(self) -> Estimate:
    """What stands for the task in an average: the combination that does, else the primary."""
    name = headline_of(self.corpus)
    return self.corpus[name] if name else self.score

  @property
  def headline_gain(self) -> PairedDifference | None:
    """Its difference from the reference."""
    name = headline_of(self.corpus)
    return self.corpus_gain.get(name) if name else self.gain

  @property
  def label(self) -> str:
    """Of the strategy."""
    return strategy_label(self.strategy)

  @property
  def task_label(self) -> str:
    return task_label(self.task)

  @property
  def is_reference(self) -> bool:
    """Whether all others are compared with its strategy."""
    return is_reference(self.family, self.options)

  @property
  def group(self) -> tuple[str, str]:
    """(task, model): cells of a group share tables and figures."""
    return self.task, self.model

  @property
  def total_seconds(self) -> float:
    """Of all phases; nan without a measurement."""
    return sum(self.seconds.values()) if self.seconds else math.nan
