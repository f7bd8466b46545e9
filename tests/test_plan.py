"""The planner: what devices hold, what fits, ideal seconds, and what it says."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from tests.errors import user_error
import tttjax as tt
from tttjax.checkpoint import open_checkpoint
from tttjax.plan import plan_text, planned_work, planning, sizes
from tttjax.plan.abstract_programs import per_device, programs
from tttjax.plan.chips import GIB, Topology, topologies
from tttjax.strategies import STRATEGIES

ROOT = pathlib.Path(__file__).resolve().parent.parent
compiles = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="libtpu, the TPU compiler, is not installed: pip install -e '.[tpu-aot]'",
)


def work(model="8B", context=131_072, strategy="qttt", **options):
  architecture = sizes.architecture(model)
  return planned_work.work_of(architecture, context, STRATEGIES[strategy](**options), 512)


def on_first_device(tree):
  """Bytes of arrays that are really there."""
  first = jax.devices()[0]
  shards = (s for x in jax.tree.leaves(tree) for s in x.addressable_shards)
  return sum(shard.data.nbytes for shard in shards if shard.device == first)


@pytest.mark.parametrize("tensor, context", [(1, 1), (2, 2), (2, 4)])
def test_what_a_device_holds_is_what_arrays_take_there(tensor, context):
  checkpoint = open_checkpoint("embedded")
  mesh = tt.make_mesh(tensor=tensor, context=context, devices=jax.devices()[: tensor * context])
  model, params = tt.from_pretrained("embedded", mesh=mesh)
  tokens = jnp.zeros((1, 900), jnp.int32)
  cache, _ = tt.prefill(model, params, tokens)
  cfg = tt.TTTConfig(steps=1, span=32)
  fast, state, _ = tt.adapt(model, params, cache, tokens, jax.random.key(0), cfg)
  planned = planned_work.work_of(checkpoint.config, 900, STRATEGIES["qttt"](steps=1, span=32), 8)
  held = programs(model, planned)["adapt"].held
  assert held["weights"] == on_first_device(params)
  assert held["cache"] == on_first_device((cache.keys, cache.values))
  counts = sum(x.nbytes for x in jax.tree.leaves(state) if x.ndim == 0)
  assert held["fast weights"] == on_first_device((fast, state)) - counts


def test_abstract_devices_hold_as_much_as_real_ones():
  shape = planning.mesh_sizes(sizes.architecture("8B"), 8)
  assert shape == {"data": 1, "fsdp": 1, "tensor": 8, "context": 1}
  mesh = tt.make_mesh(**shape)
  model = tt.Decoder(sizes.architecture("8B"), jnp.bfloat16, mesh)
  real = max(sum(p.held.values()) for p in programs(model, work()).values())
  assert planning.least(work(), Topology("h100", "8")) == real


@pytest.mark.parametrize(
  "model, millions",
  [("0.6B", 596), ("1.7B", 1721), ("4B", 4022), ("8B", 8191), ("14B", 14768), ("32B", 32762)],
)
def test_released_sizes_have_their_published_number_of_weights(model, millions):
  """Of the files on the hub, in millions."""
  params = tt.abstract_params(tt.Decoder(sizes.architecture(model), jnp.bfloat16))
  assert per_device(params) / 2 / 1e6 == pytest.approx(millions, rel=2e-3)


@pytest.mark.parametrize(
  "model, devices, expected",
  [("8B", 4, (4, 1)), ("8B", 32, (8, 4)), ("Qwen2.5-7B", 8, (4, 2)), ("8B", 1, (1, 1))],
)
def test_kv_heads_are_split_first_and_then_the_context(model, devices, expected):
  mesh = planning.mesh_sizes(sizes.architecture(model), devices)
  assert (mesh["tensor"], mesh["context"]) == expected


def test_ideal_seconds_are_the_larger_of_computing_and_moving():
  found = planning.plan(work(), Topology("h200", "1"))
  prefill, adapt, generate = (phase.ideal for phase in found.phases)
  # 8B: 36 layers, 7.57e9 weights a token passes (without the embeddings), 36,864 cache values.
  weights, context = 36 * 4096 * (2 * 40 * 128 + 3 * 12288) + 4096 * 151936, 131_072
  attention = 2 * 36 * 32 * 128 * context * (context + 1)
  layers = 2 * (weights - 4096 * 151936) * context
  assert prefill.flops == layers + attention + 2 * 4096 * 151936
  assert prefill.seconds == pytest.approx(prefill.flops / 989e12)
  cache, delta = 2 * 2 * 36 * 8 * 128 * context, 4 * 36 * 4096 * 4096
  assert generate.seconds == pytest.approx(512 * (2 * weights + cache + delta) / 4800e9)
  assert (prefill.bound, adapt.bound, generate.bound) == ("compute", "compute", "memory")
  halves = planning.plan(work(), Topology("h200", "2"))
  assert halves.phases[0].ideal.seconds == pytest.approx(prefill.seconds / 2)


def test_samples_share_the_cache_and_their_thoughts_are_matched():
  many = work(strategy="self_consistency", n=8, temperature=0.6)
  assert (many.samples, many.adapts) == (8, False)
  assert set(many.flops()) == {"prefill", "generate"}
  spent = work().flops()
  # Encoding the question with every sample is not free, and a token is not divided.
  given = spent["adapt"] + spent["generate"]
  assert 0.97 * given < many.flops()["generate"] <= given


def test_a_topology_that_cannot_hold_the_weights_is_passed_over():
  plans = list(planning.smallest(work("32B"), topologies("h100")))
  assert [str(plan.topology) for plan in plans] == ["h100:2"] and plans[0].fits
  text = plan_text.verdict(plans[0])
  tightest = plans[0].tightest
  assert tightest.name == "adapt" and f"{tightest.total / GIB:.1f} of 78.0 GiB" in text


@pytest.mark.parametrize(
  "text, words",
  [
    ("h300", ("h300", "v5e, v5p")),
    ("v5p:2x3", ("2x3 is none of its sizes", "2x2x1")),
    ("h100:lots", ("lots is no size", "1, 2, 4, 8")),
  ],
)
def test_a_topology_that_there_is_not_names_those_that_there_are(text, words):
  with user_error(*words):
    topologies(text)


def run(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "tttjax.plan", *arguments],
    cwd=ROOT,
    env=os.environ | {"XLA_FLAGS": ""},
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize(
  "arguments, words",
  [
    ((), "--model is missing: Qwen3-0.6B"),
    (("--model=9B",), "--model: 9B: no such directory"),
    (("--model=8B", "--context=0"), "--context=0: at least 1"),
    (("--model=8B", "--context=64"), "--strategy: span=128 inputs and their targets need"),
    (("--model=8B", "--strategy=beam"), "--strategy: beam cannot be planned: choose in_context"),
    (("--model=8B", "--attention=flash"), "--attention='flash': choose one of auto, portable"),
    (("--model=8B", "--topology=tpu"), "topology 'tpu': choose a family"),
  ],
)
def test_a_mistake_is_one_line(arguments, words):
  done = run(*arguments)
  assert done.returncode == 2 and not done.stdout
  assert done.stderr.count("\n") == 1 and words in done.stderr


def test_what_is_too_small_says_by_how_much_and_what_is_enough():
  done = run("--model=8B", "--topology=a100:1", "--context=400000")
  assert done.returncode == 0, done.stderr
  assert "(the model's files allow 40,960 positions" in done.stdout
  assert "a100:1 does not fit: adapt needs" in done.stdout and "too many" in done.stdout
  assert "the smallest a100 that fits:" in done.stdout and "a100:2 fits" in done.stdout
  assert run("--model=32B", "--topology=a100", "--context=4000000").returncode == 1


# Compiled for a TPU. ------------------------------------------------------------------------------


@compiles
@pytest.mark.parametrize(
  "model, context, family, expected",
  [
    ("1.7B", 32_768, "v5e", "v5e:1x1"),
    pytest.param("4B", 32_768, "v6e", "v6e:1x1", marks=pytest.mark.slow),
    pytest.param("8B", 131_072, "v5p", "v5p:1x1x1", marks=pytest.mark.slow),
    pytest.param("32B", 131_072, "v5p", "v5p:2x2x1", marks=pytest.mark.slow),
    pytest.param("8B", 1_048_576, "v5p", "v5p:2x2x1", marks=pytest.mark.slow),
    pytest.param("32B", 131_072, "v5e", "v5e:4x8", marks=pytest.mark.slow),
  ],
)
def test_a_released_model_fits_the_smallest_slice_that_is_named(model, context, family, expected):
  done = run(f"--model={model}", f"--context={context}", f"--topology={family}")
  print(done.stdout)  # pytest -s shows the figures
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1].startswith(f"{expected} fits: ")
  assert f"{expected}, " in done.stdout and "compiled ahead of time" in done.stdout


@compiles
def test_a_slice_that_is_too_small_is_measured_all_the_same():
  """The compiler refuses it, and says how much it would need."""
  arguments = "--model=1.7B", "--context=131072", "--strategy=in_context", "--topology=v5e:1x1"
  done = run(*arguments)
  assert done.returncode == 0, done.stderr
  # 3.2 GiB of weights and 14 of the cache, of 15.75, and the compiler's temporaries.
  line = next(line for line in done.stdout.splitlines() if "does not fit" in line)
  needed = float(line.split("needs ")[1].split()[0])
  assert line.startswith("v5e:1x1") and 17.3 < needed < 20
  assert "\nthe smallest v5e that fits:\n" in done.stdout and "v5e:2x2 fits: " in done.stdout
