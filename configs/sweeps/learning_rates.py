"""Learning rates of qTTT, wide enough to see no effect at one end and harm at the other.

python -m launch.sweep --config=configs/sandbox.py --sweep=configs/sweeps/learning_rates.py \
    --name=rates
(the same command with --collect writes runs/rates/report)

Expected time: not measured. Shows accuracy against the learning rate, for qttt and its control.
The rates suit the embedded model; the plateau of real Qwen3 is 1e-6 to 1e-5 (paper, table 1).
Its contexts are those of seed 0; report the chosen rate with another.
"""

from launch import algebra


def get_sweep() -> list[dict]:
  return algebra.product(
    algebra.fixed({"seeds": (0,)}),
    algebra.chain(
      algebra.fixed({"strategies": ("in_context",)}),
      algebra.product(
        algebra.fixed({"strategies": ("qttt", "qttt_other_context")}),
        algebra.sweep("ttt.learning_rate", (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
      ),
    ),
  )
