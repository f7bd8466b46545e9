"""Compiles a strategy's programs at real models' sizes for a TPU topology, without a TPU.

  python -m tests.tpu_aot --model=8B --topology=v5e:2x4 --tensor=4 --context=2

prints one JSON line per program: seconds to compile, bytes of a device's arguments, outputs and
temporaries, and the elements of what each all-gather makes. Needs libtpu (extra `tpu-aot`).
"""

import argparse
import json
import math
import re
import time

import jax.numpy as jnp

import tttjax as tt
from tttjax.plan import compiled, planned_work, sizes
from tttjax.plan.abstract_programs import programs
from tttjax.plan.chips import topologies
from tttjax.strategies import STRATEGIES

TOKENS, NEW_TOKENS = 32768, 512


def gathered(hlo: str) -> list[int]:
  """Elements of the result of each all-gather; of a tuple, of its largest part."""
  results = re.findall(r"= (.*?) all-gather(?:-start)?\(", hlo)
  assert len(results) == len(re.findall(r" all-gather(?:-start)?\(", hlo))
  elements = lambda shape: math.prod(map(int, filter(None, shape.split(","))))
  return [max(map(elements, re.findall(r"\w+\[([\d,]*)\]", result))) for result in results]


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--model", default="8B")
  parser.add_argument("--topology", default="v5e:2x4")
  parser.add_argument("--tensor", type=int, default=4)
  parser.add_argument("--context", type=int, default=2)
  parser.add_argument("--attention", default="auto")
  parser.add_argument("--programs", nargs="+", default=["prefill", "adapt", "generate"])
  parser.add_argument("--dump", help="write each compiled program's HLO to DUMP_<program>.txt")
  args = parser.parse_args()
  (topology,) = topologies(args.topology)
  devices = compiled.devices_of(topology)
  mesh = tt.make_mesh(tensor=args.tensor, context=args.context, devices=devices)
  model = tt.Decoder(sizes.architecture(args.model), jnp.bfloat16, mesh, attention=args.attention)
  work = planned_work.work_of(model.config, TOKENS, STRATEGIES["qttt"](), NEW_TOKENS)
  for name in args.programs:
    begin = time.perf_counter()
    done = programs(model, work)[name].lower().compile()
    seconds = time.perf_counter() - begin
    memory = done.memory_analysis()
    parts = ("argument", "output", "temp", "alias")
    line = {part: getattr(memory, f"{part}_size_in_bytes") for part in parts}
    hlo = done.as_text()
    line = {"program": name, "seconds": round(seconds, 1), **line, "gathered": gathered(hlo)}
    print(json.dumps(line), flush=True)
    if args.dump:
      with open(f"{args.dump}_{name}.txt", "w") as file:
        file.write(hlo)


if __name__ == "__main__":
  main()
