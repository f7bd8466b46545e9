"""Compiles the attention's TPU kernels at real models' shapes, without a TPU.

  python -m tests.tpu_kernels_aot --topology=v5e:1x1 --models SmolLM2-135M --dtypes bfloat16

prints one JSON line per model, phase, dtype and program (a kernel alone, or chunks of prefill in a
loop that writes the cache too): seconds to compile, bytes of the arguments,
of one layer of keys or values and of temporaries, and how many kernels the program calls. Needs
libtpu (extra `tpu-aot`).
"""

import argparse
import json
import math
import time

import jax
from jax import lax
import jax.numpy as jnp

from tttjax.attention import pallas_tpu
from tttjax.attention.caches import write_slots
from tttjax.plan import compiled
from tttjax.plan.chips import Topology

CAPACITY, LAYERS = 131_072, 4
# Query heads, KV heads, head_dim.
MODELS = {"Qwen3-8B": (32, 8, 128), "Llama-3.2-1B": (32, 8, 64), "SmolLM2-135M": (9, 3, 64)}
# Tokens per call.
PHASES = {"span": 128, "prefill": 512, "decode": 1}


def write_and_attend(q, keys, values, layer, first, limits, new):
  """Every chunk of a cache, written and attended to; the cache and the sum of outputs."""

  def body(index, state):
    *cache, total = state
    cache = [write_slots(x, new, layer, index * q.shape[1], None) for x in cache]
    o, _ = pallas_tpu.forward(q, *cache, layer, first, limits + index * q.shape[1])
    return *cache, total + o

  return lax.fori_loop(0, CAPACITY // q.shape[1], body, (keys, values, q.astype(jnp.float32)))


def calls(model: str, phase: str, dtype: str, device):
  """program -> (function, abstract arguments) on one device."""
  (heads, kv_heads, dim), tokens = MODELS[model], PHASES[phase]
  placed = jax.sharding.SingleDeviceSharding(device)
  abstract = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype, sharding=placed)
  slots = abstract(dtype, LAYERS, 1, kv_heads, CAPACITY, dim)
  i32, f32 = jnp.int32, jnp.float32
  q = abstract(dtype, 1, tokens, heads, dim)
  read = q, slots, slots, abstract(i32), abstract(i32, 1), abstract(i32, 1, tokens)
  o, lse = abstract(f32, *q.shape), abstract(f32, 1, tokens, heads)
  found = {"forward": (pallas_tpu.forward, read)}
  if phase == "span":
    found["backward_q"] = pallas_tpu.backward_q, (*read, o, lse, o, lse)
  if phase == "prefill":
    found["chunks"] = write_and_attend, (*read, abstract(dtype, 1, kv_heads, tokens, dim))
  return found


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--topology", default="v5e:1x1")
  parser.add_argument("--models", nargs="+", default=list(MODELS))
  parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
  args = parser.parse_args()
  device = compiled.devices_of(Topology(*args.topology.split(":")))[0]
  cases = [(m, p, d) for m in args.models for p in PHASES for d in args.dtypes]
  for case in cases:
    for program, (function, arguments) in calls(*case, device).items():
      begin = time.perf_counter()
      done = jax.jit(function).lower(*arguments).compile()
      memory = done.memory_analysis()
      line = dict(zip(("model", "phase", "dtype"), case)) | {
        "program": program,
        "seconds": round(time.perf_counter() - begin, 1),
        "argument": memory.argument_size_in_bytes,
        "layer": arguments[1].dtype.itemsize * math.prod(arguments[1].shape[1:]),
        "temp": memory.temp_size_in_bytes,
        "calls": done.as_text().count('custom_call_target="tpu_custom_call"'),
      }
      print(json.dumps(line), flush=True)


if __name__ == "__main__":
  main()
