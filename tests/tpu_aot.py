"""Compiles the programs of real models' sizes for a TPU topology, on a machine without a TPU.

  python tests/tpu_aot.py --model=qwen3-8b --topology=v5e:2x4 --tensor=4 --context=2

prints one JSON line per program: seconds to compile, bytes of a device's arguments,
outputs and temporaries, and the elements of what each all-gather makes. Needs libtpu
(extra `tpu-aot`). Run one at a time, with
JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 ALLOW_MULTIPLE_LIBTPU_LOAD=1 in the environment.
"""

import argparse
import json
import math
import re
import time

import jax
from jax.experimental import topologies
import jax.numpy as jnp

import tttjax as tt
from tttjax.decode.generation import _generate
from tttjax.decode.prefilling import _prefill
from tttjax.sharding import named_sharding
from tttjax.ttt.adaptation import _adapt

CONTEXT, PROMPT, NEW_TOKENS, STEPS = 32768, 128, 512, 32
_FAMILIES = {
  "qwen3": {"vocab_size": 151936, "max_position_embeddings": 40960, "rope_theta": 1e6},
  "qwen2": {
    "vocab_size": 152064,
    "max_position_embeddings": 131072,
    "rope_theta": 1e6,
    "qk_norm": False,
    "qkv_bias": True,
    "model_type": "qwen2",
  },
  "llama": {
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_theta": 5e5,
    "rope_scaling": tt.Llama3Config(8.0, 1.0, 4.0, 8192),
    "qk_norm": False,
    "model_type": "llama",
  },
}
# family, layers, hidden, query heads, KV heads, MLP, tied: config.json of what was released.
_SIZES = {
  "qwen3-1.7b": ("qwen3", 28, 2048, 16, 8, 6144, True),
  "qwen3-8b": ("qwen3", 36, 4096, 32, 8, 12288, False),
  "qwen2.5-7b": ("qwen2", 28, 3584, 28, 4, 18944, False),
  "llama-3.1-8b": ("llama", 32, 4096, 32, 8, 14336, False),
}


def config(name: str) -> tt.DecoderConfig:
  family, layers, hidden, heads, kv_heads, mlp, tied = _SIZES[name]
  return tt.DecoderConfig(
    hidden_size=hidden,
    intermediate_size=mlp,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    num_key_value_heads=kv_heads,
    head_dim=128,
    tie_word_embeddings=tied,
    **_FAMILIES[family],
  )


def programs(model: tt.Decoder) -> dict:
  """name -> (jitted function, static arguments, abstract arguments), 32k tokens of context."""
  c, mesh = model.config, model.mesh
  abstract = lambda shape, dtype, *axes: jax.ShapeDtypeStruct(
    shape, dtype, sharding=named_sharding(mesh, axes or (None,) * len(shape), shape)
  )
  like = lambda tree: jax.tree.map(lambda x: abstract(jnp.shape(x), jnp.asarray(x).dtype), tree)
  ids = lambda *shape: abstract(shape, jnp.int32)
  params = tt.abstract_params(model)
  slots = (c.num_hidden_layers, 1, c.num_key_value_heads, CONTEXT, c.head_dim)
  kv = abstract(slots, model.dtype, None, "batch", "kv_heads", "slots", None)
  cache = tt.PrefixCache(kv, kv, ids(1, CONTEXT), ids(1))
  query = params["layers"]["attention"]["query"]["kernel"]
  delta = jax.ShapeDtypeStruct(query.shape, jnp.float32, sharding=query.sharding)
  fast = {"layers": {"attention": {"query": {"delta": delta}}}}
  cfg = tt.TTTConfig(steps=STEPS)
  key = abstract((), jax.random.key(0).dtype)
  sampling = tt.SamplingConfig(max_new_tokens=NEW_TOKENS)
  return {
    "prefill": (_prefill, (model,), (params, ids(1, CONTEXT), ids(1), ids(1, CONTEXT))),
    "adapt": (
      _adapt,
      (model, 64),
      (params, None, None, cache, ids(1, CONTEXT), key, None, ids(), ids()) + (like(cfg.traced()),),
    ),
    "generate": (
      _generate,
      (model, NEW_TOKENS, False),
      (params, fast, cache, ids(1, PROMPT), ids(1), key, like(sampling.traced(1))),
    ),
  }


def gathered(hlo: str) -> list[int]:
  """Elements of the result of each all-gather; of a tuple, of its largest part."""
  results = re.findall(r"= (.*?) all-gather(?:-start)?\(", hlo)
  assert len(results) == len(re.findall(r" all-gather(?:-start)?\(", hlo))
  elements = lambda shape: math.prod(map(int, filter(None, shape.split(","))))
  return [max(map(elements, re.findall(r"\w+\[([\d,]*)\]", result))) for result in results]


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--model", choices=_SIZES, default="qwen3-8b")
  parser.add_argument("--topology", default="v5e:2x4")
  parser.add_argument("--tensor", type=int, default=4)
  parser.add_argument("--context", type=int, default=2)
  parser.add_argument("--programs", nargs="+", default=["prefill", "adapt", "generate"])
  parser.add_argument("--dump", help="write each compiled program's HLO to DUMP_<program>.txt")
  args = parser.parse_args()
  topology = topologies.get_topology_desc(args.topology, platform="tpu")
  mesh = tt.make_mesh(tensor=args.tensor, context=args.context, devices=topology.devices)
  model = tt.Decoder(config(args.model), jnp.bfloat16, mesh)
  for name in args.programs:
    function, static, arguments = programs(model)[name]
    begin = time.perf_counter()
    compiled = function.lower(*static, *arguments).compile()
    seconds = time.perf_counter() - begin
    memory = compiled.memory_analysis()
    parts = ("argument", "output", "temp", "alias")
    sizes = {part: getattr(memory, f"{part}_size_in_bytes") for part in parts}
    hlo = compiled.as_text()
    line = {"program": name, "seconds": round(seconds, 1), **sizes}
    print(json.dumps(line | {"gathered": gathered(hlo)}), flush=True)
    if args.dump:
      with open(f"{args.dump}_{name}.txt", "w") as file:
        file.write(hlo)


if __name__ == "__main__":
  main()
