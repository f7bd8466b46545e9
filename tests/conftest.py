"""Test setup: CPU, eight forced devices for the sharding tests, quick compiles, one thread."""

import os
import pathlib

from tests import xla_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
for _flag, _value in xla_flags.flags(devices=8).items():
  if _flag not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{_flag}={_value}".strip()
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


@pytest.fixture(scope="module", autouse=True)
def few_programs():
  """Forgets the compiled programs after a file where there are too many of them.

  XLA maps memory for each program (a hundred times for one of eight devices), and Linux gives a
  process 65,530 maps: with the programs of the whole suite the compiler ends in a segmentation
  fault.
  """
  yield
  maps = pathlib.Path("/proc/self/maps")
  if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
    jax.clear_caches()


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
