"""The embedded checkpoint: a 0.85M-parameter Qwen3 trained from scratch on synthetic bank logs.

python -m tttjax.pretrain --config=configs/pretrain_embedded.py --workdir=DIR

Expected time: about an hour on one core of a shared machine, 11.4 million tokens. Expected score on
held-out logs: balance 1.0 at 128 tokens and 0.99 at 384, amount 1.0 and 0.97; the anomaly is not
learned. Measured on the shipped checkpoint, whose run differed as docs/embedded/README.md says.
On machines with few cores add XLA_FLAGS=--xla_cpu_multi_thread_eigen=false: the matrices are small.
"""

# Part of the package, so that a program installed without this file trains it too.
from tttjax.pretrain.embedded_config import get_config
