"""Each module on its own against transformers'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from tests import reference
from tests.reference import relative_error
from tttjax.attention.phases import SelfAttention
from tttjax.models import decoder as modules
from tttjax.models.rope import rotations

_LAYER = 1


def _layer(params, name):
  return {"params": jax.tree.map(lambda x: x[_LAYER], params["layers"][name])}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rms_norm_casts_before_the_scale_as_transformers(rng, dtype):
  x, scale = rng.normal(size=(64, 40)) * 3, rng.normal(size=40)
  theirs = Qwen3RMSNorm(40, eps=1e-6).to(getattr(torch, dtype))
  theirs.weight.data = torch.tensor(scale, dtype=getattr(torch, dtype))
  expected = theirs(torch.tensor(x, dtype=getattr(torch, dtype))).detach().float().numpy()
  ours = modules.RMSNorm(1e-6, jnp.dtype(dtype))
  got = ours.apply({"params": {"scale": jnp.asarray(scale, dtype)}}, jnp.asarray(x, dtype))
  assert got.dtype == dtype
  if dtype == "float32":
    np.testing.assert_allclose(got, expected, rtol=1e-6)
  else:  # bit for bit, but for a rare mean that rounds the other way
    assert np.mean(np.asarray(got, np.float32) == expected) > 0.999


def test_mlp_equals_transformers(small, rng):
  hf, model, params = small
  x = rng.normal(size=(2, 9, model.config.hidden_size)).astype(np.float32)
  expected = hf.model.layers[_LAYER].mlp(torch.tensor(x)).numpy()
  mlp = modules.MLP(model.config, jnp.float32, None)
  assert relative_error(mlp.apply(_layer(params, "mlp"), x), expected) < 1e-5


def test_attention_equals_transformers(small, rng):
  hf, model, params = small
  x = rng.normal(size=(2, 33, model.config.hidden_size)).astype(np.float32)
  positions = np.broadcast_to(np.arange(33, dtype=np.int32), (2, 33))
  rope = hf.model.rotary_emb(torch.tensor(x), torch.tensor(positions))
  mask = torch.full((33, 33), -torch.inf).triu(1)[None, None]
  expected, _ = hf.model.layers[_LAYER].self_attn(torch.tensor(x), rope, mask)
  attention = modules.Attention(model.config, jnp.float32, None)

  @jax.jit
  def apply(variables, x, positions):
    rope = rotations(model.config, positions)
    return attention.apply(variables, x, (), rope, SelfAttention(), 0)[0]

  got = apply(_layer(params, "attention"), x, positions)
  assert relative_error(got, expected) < 1e-5


def test_queries_are_x_w_plus_x_delta(small, rng):
  _, model, params = small
  x = jnp.asarray(rng.normal(size=(1, 5, model.config.hidden_size)), jnp.float32)
  kernel = params["layers"]["attention"]["query"]["kernel"][0]
  delta = jnp.asarray(rng.normal(size=kernel.shape), jnp.float32)
  query = modules.QueryProjection(model.config, jnp.float32)
  got = query.apply({"params": {"kernel": kernel}, "ttt": {"delta": delta}}, x)
  expected = np.einsum("btd,dhk->bthk", x, np.asarray(kernel) + np.asarray(delta))
  assert relative_error(got, expected) < 1e-5


def test_a_delta_far_below_the_bfloat16_resolution_still_moves_the_queries(small, rng):
  _, model, _ = small
  x = jnp.asarray(rng.normal(size=(1, 5, model.config.hidden_size)), jnp.bfloat16)
  shape = (model.config.hidden_size, model.config.num_attention_heads, model.config.head_dim)
  kernel = jnp.asarray(rng.normal(size=shape), jnp.bfloat16)
  delta = jnp.asarray(rng.normal(size=shape) * 1e-5, jnp.float32)
  query = modules.QueryProjection(model.config, jnp.bfloat16)
  base = query.apply({"params": {"kernel": kernel}}, x)
  moved = query.apply({"params": {"kernel": kernel}, "ttt": {"delta": delta}}, x)
  expected = np.einsum("btd,dhk->bthk", np.asarray(x, np.float32), np.asarray(delta))
  assert moved.dtype == jnp.float32
  assert relative_error(moved - base, expected) < 2e-2


def test_params_have_the_declared_shapes_and_dtype(small):
  _, model, params = small
  declared = modules.abstract_params(model)
  assert jax.tree.map(lambda x: (x.shape, x.dtype), declared) == jax.tree.map(
    lambda x: (x.shape, x.dtype), params
  )
  half = model.clone(dtype=jnp.bfloat16)
  made = jax.eval_shape(lambda key: modules.init_params(half, key), jax.random.key(0))
  assert jax.tree.structure(made) == jax.tree.structure(params)
  assert {x.dtype for x in jax.tree.leaves(made)} == {jnp.dtype(jnp.bfloat16)}


def test_tied_models_have_no_head():
  config = reference.model_config(reference.Shape(tied=True))
  assert "lm_head" not in modules.abstract_params(modules.Decoder(config))
