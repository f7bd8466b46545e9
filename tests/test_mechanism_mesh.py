"""The measurements on eight devices, slots split over them or not, equal one device's."""

import jax
import mesh_flow
import numpy as np
import pytest

import tttjax as tt
from tttjax import mechanism

_MESHES = {
  "data2_context2_tensor2": dict(data=2, context=2, tensor=2),
  "tensor8": dict(tensor=8),
}


def _measure(model, params):
  contexts, suffixes, evidence = mesh_flow.numbers()
  pair, _ = tt.prefill(model, params, contexts, mesh_flow.LENGTHS, mesh_flow.CAPACITY)
  slots = {"keys": pair.keys[:, :1], "values": pair.values[:, :1]}
  one = pair.replace(**slots, positions=pair.positions[:1], lengths=pair.lengths[:1])
  fast = jax.tree.map(
    lambda d: 0.1 * jax.random.normal(jax.random.key(1), d.shape), tt.init_fast(model, params)
  )
  rows = pair, suffixes, mesh_flow.ROWS, evidence
  return {
    "statistics": mechanism.attention_statistics(model, params, fast, *rows),
    "step": mechanism.query_step_check(model, params, fast, *rows, 1, np.array([0.5])),
    "losses": mechanism.span_losses(model, params, fast, one, contexts[:1], np.array([3, 250]), 24),
  }


@pytest.fixture(scope="module")
def params():
  return mesh_flow.host_params()


@pytest.fixture(scope="module")
def one_device(params):
  return _measure(tt.Decoder(mesh_flow.CONFIG), params)


@pytest.mark.parametrize("mesh", _MESHES.values(), ids=_MESHES.keys())
def test_measurements_equal_one_device(params, one_device, mesh):
  model = tt.Decoder(mesh_flow.CONFIG, mesh=tt.make_mesh(**mesh))
  got = _measure(model, mesh_flow.place(model, params))
  errors = jax.tree.map(mesh_flow.relative_error, got, one_device)
  assert max(jax.tree.leaves(errors)) < 2e-4, errors
