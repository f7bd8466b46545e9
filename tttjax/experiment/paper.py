"""The settings that the paper's experiments share (its sections 4 and 5, and appendices)."""

from ml_collections import config_dict

from tttjax.errors import UserError
from tttjax.experiment.run_fields import PAPER, default_config

SIZES = ("embedded", "paper")
# The paper's names and order of the subsets, LongBench-v2's own names of its domains.
_LONGBENCH_V2 = (
  "Code Repository Understanding",
  "Long-dialogue History Understanding",
  "Long Structured Data Understanding",
  "Long In-context Learning",
  "Multi-Document QA",
  "Single-Document QA",
)
_ZERO_SCROLLS = (
  "gov_report",
  "musique",
  "narrative_qa",
  "qasper",
  "qmsum",
  "quality",
  "squality",
  "summ_screen_fd",
)
BENCHMARKS = {
  "longbench_v2": tuple(f"longbench_v2(domain='{domain}')" for domain in _LONGBENCH_V2),
  "zero_scrolls": tuple(f"zero_scrolls(task={task})" for task in _ZERO_SCROLLS),
}


def sandbox_config(size: str, name: str) -> config_dict.ConfigDict:
  """The paper's hyperparameters, or those that suit the embedded model.

  Args:
    size: 'paper': N = 32 steps of k = 128 at 1e-5 against 8,192 thinking tokens (its rule 2 N k),
      answers of up to 512 tokens, the sampling of Qwen3; config.models must be given. 'embedded':
      the small model, N = 32 steps of k = 32 at 1e-3, thinking matched by exact FLOPs, greedy
      decoding but for the samples of self-consistency.
    name: the work directory is runs/NAME, or runs/NAME-paper.

  Raises:
    UserError: another size.
  """
  if size not in SIZES:
    raise UserError(f"size {size!r}: write --config=FILE or --config=FILE:paper")
  config = default_config()
  config.seeds = (1,)  # seed 0 is for tuning
  if size == "embedded":
    config.workdir = f"runs/{name}"
    config.contexts = (12,)
    config.questions = 4
    config.share_programs = True
    return config
  config.workdir = f"runs/{name}-paper"
  config.models = ("Qwen3-4B",)
  config.contexts = (100,)
  config.questions = 1
  config.sampling.max_new_tokens = 512
  _as_in_the_paper(config)
  return config


def benchmark_config(benchmark: str, name: str) -> config_dict.ConfigDict:
  """The paper's hyperparameters on a benchmark of real documents, every question of it.

  Stock Qwen3 has positions for 40,960 tokens: YaRN extends them to 131,072. Messages are cut to
  120,000 tokens, which leaves room for 8,192 of thinking and the answer. Answers are as long as the
  benchmark allows (the paper: 512 tokens everywhere). config.models and config.data must be given.

  Args:
    benchmark: longbench_v2, one task for each of the paper's six subsets, or zero_scrolls, the
      eight tasks that the paper takes.
    name: the work directory is runs/NAME-BENCHMARK.

  Raises:
    UserError: another benchmark.
  """
  if benchmark not in BENCHMARKS:
    raise UserError(f"benchmark {benchmark!r}: choose one of {', '.join(BENCHMARKS)}")
  config = default_config()
  config.workdir = f"runs/{name}-{benchmark}"
  config.models = ("Qwen3-4B",)
  config.yarn.factor = 4.0
  config.tasks = BENCHMARKS[benchmark]
  config.lengths = (120_000,)
  config.contexts = (5_000,)  # as many as there are
  config.questions = 100
  config.seeds = (1,)
  config.strategies = ("in_context", "thinking", "qttt", "qttt_other_context")
  config.mechanism = False  # where the evidence stands is not known
  _as_in_the_paper(config)
  return config


def _as_in_the_paper(config: config_dict.ConfigDict) -> None:
  config.ttt.steps, config.ttt.span, config.ttt.learning_rate = 32, 128, 1e-5
  config.thinking.budget = PAPER
  config.thinking.temperature = 0.6
  config.sampling.temperature, config.sampling.top_p, config.sampling.top_k = 0.7, 0.8, 20
