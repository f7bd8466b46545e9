"""(k, N): few long spans or many short ones. The paper tried one point, k=128 and N=32.

python -m launch.sweep --config=configs/sandbox.py --sweep=configs/sweeps/span_grid.py \
    --name=span_grid
(the same command with --collect writes runs/span_grid/report)

Expected time: not measured. Shows a heat map of the accuracy of qttt; cells on a diagonal train
on the same number of tokens, N k. Every cell has its control, qttt_other_context. A span must be
shorter than the shortest of config.lengths.
"""

from launch import algebra


def get_sweep() -> list[dict]:
  return algebra.chain(
    algebra.fixed({"strategies": ("in_context",)}),
    algebra.product(
      algebra.fixed({"strategies": ("qttt", "qttt_other_context")}),
      algebra.sweep("ttt.span", (8, 32, 128)),
      algebra.sweep("ttt.steps", (8, 32, 128)),
    ),
  )
