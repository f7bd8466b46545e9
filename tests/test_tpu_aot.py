"""Released models' sizes at 32k tokens compile for eight v5e chips and fit, and so do the
attention's kernels for every TPU; none is needed."""

import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tttjax.plan import sizes

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="libtpu, the TPU compiler, is not installed: pip install -e '.[tpu-aot]'",
)

_ROOT = pathlib.Path(__file__).parent.parent
# What XLA leaves to programs of a v5e chip's 16 GiB.
_HBM = 15.75 * 2**30
# Compiling the three programs takes one to two minutes; libtpu is used by one process at a time.
_SECONDS = 1200


def lines(module: str, *flags: str) -> list[dict]:
  """What a module of tests/ prints."""
  env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
  run = subprocess.run(
    [sys.executable, "-m", f"tests.{module}", *flags],
    cwd=_ROOT,
    env=env,
    capture_output=True,
    text=True,
    timeout=_SECONDS,
    check=False,
  )
  assert run.returncode == 0, run.stderr[-4000:]
  return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


@functools.cache
def compiled(model: str, tensor: int, context: int) -> dict:
  """program -> its line of tests/tpu_aot.py."""
  flags = [f"--model={model}", f"--tensor={tensor}", f"--context={context}"]
  return {line["program"]: line for line in lines("tpu_aot", "--topology=v5e:2x4", *flags)}


@pytest.mark.parametrize(
  "model, tensor, context",
  [
    ("8B", 4, 2),
    pytest.param("8B", 8, 1, marks=pytest.mark.slow),
    pytest.param("1.7B", 4, 2, marks=pytest.mark.slow),
    pytest.param("Qwen2.5-7B", 4, 2, marks=pytest.mark.slow),
    pytest.param("Llama-3.1-8B", 4, 2, marks=pytest.mark.slow),
  ],
)
class TestV5e8:
  @pytest.mark.parametrize("program", ["prefill", "adapt", "generate"])
  def test_compiles_and_fits(self, model, tensor, context, program):
    line = compiled(model, tensor, context)[program]
    print(line)  # pytest -s shows the figures
    assert line["argument"] + line["output"] + line["temp"] - line["alias"] < _HBM

  @pytest.mark.parametrize("program", ["prefill", "generate"])
  def test_holds_no_second_copy_of_the_cache(self, model, tensor, context, program):
    programs = compiled(model, tensor, context)
    cache = programs["prefill"]["output"]
    assert programs[program]["temp"] < cache

  def test_holds_no_second_copy_of_the_fast_weights(self, model, tensor, context):
    # What it returns is Delta and two moments; a gradient, its update and the logits come and go.
    line = compiled(model, tensor, context)["adapt"]
    assert line["temp"] < line["output"]

  @pytest.mark.parametrize("program", ["prefill", "adapt", "generate"])
  def test_gathers_neither_weights_nor_cache(self, model, tensor, context, program):
    # XLA may gather the logits of the one token to sort them, and nothing else.
    logits = sizes.architecture(model).vocab_size
    assert set(compiled(model, tensor, context)[program]["gathered"]) <= {logits}


@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:1x1", "v5p:2x2x1", "v6e:1x1"])
@pytest.mark.parametrize(
  "flags",
  [
    ["--models", "Qwen3-8B", "SmolLM2-135M", "--dtypes", "bfloat16"],
    pytest.param([], marks=pytest.mark.slow, id="all"),
  ],
)
def test_the_attention_kernels_compile_and_copy_no_cache(topology, flags):
  """head_dim 128 and 64, a span with its gradient, a chunk of prefill, a decoded token."""
  found = lines("tpu_kernels_aot", f"--topology={topology}", *flags)
  assert len(found) in (10, 30)
  for line in found:
    print(line)
    assert line["calls"] == 1
    # Four layers of keys and four of values come as they are, not padded, and none is copied.
    assert line["argument"] < 8.1 * line["layer"]
    assert line["temp"] < line["layer"] / 4
