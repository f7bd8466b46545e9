"""One process of a multi-process run: prefill, adapt and generate on a mesh over all processes.

  python tests/distributed_worker.py PORT PROCESSES PROCESS_ID OUT.npz

Process 0 writes the gathered results. Four forced CPU devices a process, gloo between them.
"""

import sys

import jax
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec as P
import mesh_flow
import numpy as np

import tttjax as tt


def check_split_arguments(model, params):
  """Arguments that no process holds whole are taken as they are; what can be checked still is."""
  split = lambda x: jax.device_put(x, jax.NamedSharding(model.mesh, P("data")))
  contexts, _, _ = mesh_flow.numbers()
  tokens, lengths = split(contexts), split(mesh_flow.LENGTHS)
  assert not tokens.is_fully_addressable
  cache, logits = tt.prefill(model, params, tokens, lengths, mesh_flow.CAPACITY)
  assert not cache.lengths.is_fully_addressable and logits.shape == (2, 96)
  tt.score(model, params, None, cache, tokens[:, :3])
  one, _ = tt.prefill(model, params, contexts[:1], capacity=mesh_flow.CAPACITY)
  try:
    tt.adapt(model, params, one, contexts[:1], jax.random.key(0), mesh_flow.TTT, np.array([299]))
    raise AssertionError("a span beyond the context was taken")
  except tt.UserError as error:
    assert "span start 299" in str(error)


def main():
  port, processes, process_id, path = sys.argv[1:]
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(f"localhost:{port}", int(processes), int(process_id))
  assert jax.process_count() == int(processes) and jax.local_device_count() == 4
  # The data axis is the outermost: its two halves lie in different processes.
  mesh = tt.make_mesh(data=2, tensor=2, context=2)
  model = tt.Decoder(mesh_flow.CONFIG, mesh=mesh)
  params = mesh_flow.place(model, mesh_flow.host_params())
  results = mesh_flow.run(model, params, everything=False)
  assert not results["cache"].keys.is_fully_addressable
  check_split_arguments(model, params)
  gathered = {
    jax.tree_util.keystr(path): multihost_utils.process_allgather(x, tiled=True)
    for path, x in jax.tree_util.tree_leaves_with_path(results)
    if isinstance(x, jax.Array)
  }
  gathered["loss"] = results["loss"]  # a history is on the host already
  if jax.process_index() == 0:
    np.savez(path, **gathered)
  jax.distributed.shutdown()


if __name__ == "__main__":
  main()
