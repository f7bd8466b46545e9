"""Test setup: CPU, eight forced devices (for the sharding tests), one torch thread."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
_DEVICES = "--xla_force_host_platform_device_count=8"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}".strip()
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# The flags above are read when jax is imported.
import jax
import numpy as np
import pytest
import torch

from tests import reference
import tttjax as tt

torch.set_num_threads(1)

_compiled = []
jax.monitoring.register_event_duration_secs_listener(
  lambda event, duration, **_: (
    _compiled.append(event) if event == "/jax/core/compile/backend_compile_duration" else None
  )
)


@pytest.fixture
def compilations():
  """A function: how many programs XLA has compiled in this process so far."""
  return lambda: len(_compiled)


@pytest.fixture(scope="session")
def small():
  """(transformers model, tttjax model, params) that most files share, and so its programs."""
  return reference.pair(reference.Shape())


@pytest.fixture(scope="session")
def context(small):
  """(tokens [1, 200], cache) of one context that test-time training can learn from."""
  _, model, params = small
  tokens = reference.repeating_tokens(np.random.default_rng(2), 200)
  return tokens, tt.prefill(model, params, tokens)[0]


@pytest.fixture
def rng():
  """A seeded numpy generator."""
  return np.random.default_rng(0)
