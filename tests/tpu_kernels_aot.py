"""Compiles the TPU kernels of the attention alone, ahead of time, at the shapes of real models.

  python -m tests.tpu_kernels_aot v4:2x2x1 v5e:1x1

prints one JSON line per topology, model, phase and kernel: seconds to compile, bytes of the
arguments' largest, of all arguments and of temporaries, on one device. Needs libtpu.
"""

import json
import math
import sys
import time

import jax
import jax.numpy as jnp

from tttjax.attention import pallas_tpu
from tttjax.plan import compiled
from tttjax.plan.chips import Topology

CAPACITY, LAYERS = 131_072, 4
# Query heads, KV heads, head_dim.
MODELS = {"Qwen3-8B": (32, 8, 128), "Llama-3.2-1B": (32, 8, 64), "SmolLM2-135M": (9, 3, 64)}
# Tokens per call.
PHASES = {"span": 128, "prefill": 512, "decode": 1}


def calls(model: str, phase: str, dtype, device):
  """kernel -> (function, abstract arguments) on one device."""
  (heads, kv_heads, dim), tokens = MODELS[model], PHASES[phase]
  placed = jax.sharding.SingleDeviceSharding(device)
  abstract = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype, sharding=placed)
  slots = abstract(dtype, LAYERS, 1, kv_heads, CAPACITY, dim)
  i32, f32 = jnp.int32, jnp.float32
  q = abstract(dtype, 1, tokens, heads, dim)
  forward = q, slots, slots, abstract(i32), abstract(i32, 1), abstract(i32, 1, tokens)
  o, lse = abstract(f32, *q.shape), abstract(f32, 1, tokens, heads)
  found = {"forward": (pallas_tpu.forward, forward)}
  if phase == "span":
    found["backward_q"] = pallas_tpu.backward_q, (*forward, o, lse, o, lse)
  return found


def main():
  for name in sys.argv[1:]:
    device = compiled.devices_of(Topology(*name.split(":")))[0]
    for model in MODELS:
      for phase in PHASES:
        for dtype in (jnp.bfloat16, jnp.float32):
          for kernel, (function, arguments) in calls(model, phase, dtype, device).items():
            begin = time.perf_counter()
            done = jax.jit(function).lower(*arguments).compile()
            memory = done.memory_analysis()
            line = {
              "topology": name,
              "model": model,
              "phase": phase,
              "dtype": jnp.dtype(dtype).name,
              "kernel": kernel,
              "seconds": round(time.perf_counter() - begin, 1),
              "layer": jnp.dtype(dtype).itemsize * math.prod(arguments[1].shape[1:]),
              "argument": memory.argument_size_in_bytes,
              "output": memory.output_size_in_bytes,
              "temp": memory.temp_size_in_bytes,
              "calls": done.as_text().count('custom_call_target="tpu_custom_call"'),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
  main()
