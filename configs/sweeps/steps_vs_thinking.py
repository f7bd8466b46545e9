"""Steps of test-time training against thinking tokens, from the same contexts and questions.

python -m launch.sweep --config=configs/sandbox.py \
    --sweep=configs/sweeps/steps_vs_thinking.py --name=steps_vs_thinking
(the same command with --collect writes runs/steps_vs_thinking/report)

Expected time: not measured. Shows accuracy against N, the steps of qTTT, and against M, the
thinking tokens, and so which of the two a budget of FLOPs or seconds is better spent on. Of
the budgets, 'matched' costs the FLOPs of the config's ttt.steps by exact count, 'paper' is the
rule 2 N k. qttt_other_context is adapted on another context: what it gains is not learned from
the context that is asked about. Zero steps must give what in_context gives.
"""

from launch import algebra


def get_sweep() -> list[dict]:
  baseline = algebra.fixed({"strategies": ("in_context",)})
  training = algebra.product(
    algebra.fixed({"strategies": ("qttt", "qttt_other_context")}),
    algebra.sweep("ttt.steps", (0, 4, 8, 16, 32, 64)),
  )
  thinking = algebra.product(
    algebra.fixed({"strategies": ("thinking",)}),
    algebra.sweep("thinking.budget", (32, 128, 512, "matched", "paper")),
  )
  return algebra.chain(baseline, training, thinking)
