"""Before anything is timed: both frameworks compute the same."""

import jax.numpy as jnp
import numpy as np

from benchmarks.subjects import Subject, context
from benchmarks.suites import Suite
import tttjax as tt

LENGTH = 512
# Largest relative error of logits, and of a step's loss.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}


def check(suite: Suite, subject: Subject, torch_model) -> dict[str, float]:
  """Relative errors of the prefill's last logits and of one step's loss against torch.

  Raises:
    SystemExit: one is too large: nothing that differs is worth timing.
  """
  import torch

  from benchmarks.peers import Peers

  tokens = context(suite, LENGTH)
  cache, logits = tt.prefill(subject.model, subject.params, tokens)
  fast = tt.init_fast(subject.model, subject.params)
  start = LENGTH - suite.span - 1
  arguments = subject.model, subject.params, fast, tt.init_optimizer(fast), cache, tokens
  cfg = tt.TTTConfig(steps=1, span=suite.span)
  _, _, metrics = tt.ttt_step(*arguments, np.int32(start), cfg)
  with torch.inference_mode():
    ids = torch.as_tensor(tokens, dtype=torch.long, device=torch_model.device)
    expected = torch_model(ids, logits_to_keep=1).logits[:, -1].float().cpu().numpy()
  peers = Peers(suite, torch_model, LENGTH)
  loop = peers.frozen_loop()
  loss = loop.loss(start, suite.span).item()
  loop.close()
  found = {
    "logits": float(np.abs(np.asarray(logits) - expected).max() / np.abs(expected).max()),
    "loss": abs(float(metrics.loss) - loss) / loss,
  }
  limit = _TOLERANCE[jnp.dtype(suite.dtype).name]
  for name, error in found.items():
    if not error < limit:
      raise SystemExit(f"{name} differ from torch's by {error:.1e}, more than {limit:.0e}")
  return found
