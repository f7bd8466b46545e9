"""Two processes of jax.distributed give the results of one."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import mesh_flow
import numpy as np

from tests import xla_flags
import tttjax as tt
from tttjax.attention.dealt_slots import dealt_order

_HERE = pathlib.Path(__file__).parent
_SECONDS = 600


def _free_port() -> int:
  with socket.socket() as s:
    s.bind(("localhost", 0))
    return s.getsockname()[1]


def test_two_processes_equal_one(tmp_path):
  out = tmp_path / "results.npz"
  env = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": xla_flags.text(devices=4),
    "PYTHONPATH": os.pathsep.join([str(_HERE.parent), str(_HERE)]),
  }
  port = _free_port()
  workers = [
    subprocess.Popen(
      [sys.executable, _HERE / "distributed_worker.py", str(port), "2", str(i), out],
      env=env,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for i in range(2)
  ]
  try:
    expected = mesh_flow.run(
      tt.Decoder(mesh_flow.CONFIG), mesh_flow.host_params(), everything=False
    )
    logs = [worker.communicate(timeout=_SECONDS)[0] for worker in workers]
  finally:
    for worker in workers:
      worker.kill()
  assert [worker.returncode for worker in workers] == [0, 0], "\n".join(logs)[-8000:]
  results = np.load(out)
  np.testing.assert_array_equal(results["['tokens']"], expected["tokens"])
  compared = 0
  for path, value in jax.tree_util.tree_leaves_with_path(expected):
    name = jax.tree_util.keystr(path)
    if not isinstance(value, jax.Array) or not np.issubdtype(value.dtype, np.floating):
      continue
    got = results[name]
    if "cache" in name:  # slots beyond a context hold what its padding encoded to
      got = got[..., np.argsort(dealt_order(mesh_flow.CAPACITY, shards=2)), :]
      got, value = (x[..., : mesh_flow.LENGTHS.min(), :] for x in (got, value))
    assert mesh_flow.relative_error(got, value) < 1e-4, name
    compared += 1
  assert compared >= 7
  assert mesh_flow.relative_error(results["loss"], expected["loss"]) < 1e-4
